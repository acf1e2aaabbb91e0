import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import memae.image.prepare
from memae import Detector
from memae.image.dataset import StoredImages, store
from memae.image.preprocess import ImagePreprocess
from memae.image.source import ImageSource
from memae.progress import EpochRecord
from memae.types import batches
from tests.listening import Listener

BRIEF = {"train": {"epochs": 2}, "memory": {"num_items": 8, "warmup_epochs": 1}, "network": "image"}


@pytest.fixture(scope="module", params=["uint8", "deep"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    generator = np.random.default_rng(0)
    for place in range(60):
        pixels = generator.integers(0, 256, (8, 10)).astype(np.uint8)
        Image.fromarray(pixels.astype(np.uint16) * 200 if request.param == "deep" else pixels).save(
            folder / f"{place:02}.png"
        )
    return folder


def test_stored_images_are_what_the_source_gives(root: Path) -> None:
    source = ImageSource([root])
    (whole,) = source.chunks(1 << 62)
    images, skipped = store(source)
    assert skipped == ()
    assert isinstance(images.pixels, np.memmap)
    assert np.array_equal(images.pixels, whole.pixels)
    assert images.pixels.dtype == whole.pixels.dtype
    assert images.keys == whole.keys
    assert source.bytes == whole.pixels.nbytes


def test_encoded_batch_by_batch_they_are_what_they_are_at_once(root: Path) -> None:
    images, _ = store(ImageSource([root]))
    preprocess = ImagePreprocess.fit(images, "unit")
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:40]
    stored = StoredImages(images, rows, preprocess)
    whole = preprocess.encode(images)[rows]
    assert (len(stored), stored.shape) == (40, (40, 1, 8, 10))
    assert torch.equal(torch.cat(list(batches(stored, 7))), whole)
    assert torch.equal(stored[torch.tensor([3, 1])], whole[[3, 1]])
    assert stored.to(torch.device("cpu"))[:2].device.type == "cpu"


def test_without_rows_they_are_all_images(root: Path) -> None:
    images, _ = store(ImageSource([root]))
    preprocess = ImagePreprocess.fit(images, "unit")
    stored, whole = StoredImages(images, None, preprocess), preprocess.encode(images)
    assert (len(stored), stored.shape) == (60, (60, 1, 8, 10))
    assert torch.equal(torch.cat(list(batches(stored, 7))), whole)
    assert torch.equal(stored[torch.tensor([3, 1])], whole[[3, 1]])


def test_training_from_the_disk_is_training_from_memory_to_the_bit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors = []
    for limit in (1 << 40, 0):
        monkeypatch.setattr(memae.image.prepare, "MEMORY_BYTES", limit)
        detectors.append(Detector(settings=BRIEF, device="cpu").fit(root))
    memory, disk = detectors
    assert memory.preprocess == disk.preprocess
    assert memory.facts["samples"] == disk.facts["samples"]
    for name, value in memory.model.state_dict().items():
        assert torch.equal(value, disk.model.state_dict()[name]), name
    assert np.array_equal(memory.threshold.calibration, disk.threshold.calibration)


def test_what_cannot_be_read_is_not_stored_and_trains_no_other_model(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(root, mixed)
    (mixed / "07a.png").write_bytes(b"")
    (mixed / "99.png").write_bytes(b"text")
    plain = Detector(settings=BRIEF, device="cpu").fit(root)
    for limit in (1 << 40, 0):
        monkeypatch.setattr(memae.image.prepare, "MEMORY_BYTES", limit)
        detector = Detector(settings=BRIEF, device="cpu").fit(mixed, skip_bad=True)
        assert detector.facts["skipped"] == {
            "count": 2,
            "first": [
                ["07a.png", "is not a readable image (the file is empty)"],
                ["99.png", "is not a readable image (it is a text file)"],
            ],
        }
        assert np.array_equal(plain.threshold.calibration, detector.threshold.calibration)


def test_training_from_the_disk_resumes(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memae.image.prepare, "MEMORY_BYTES", 0)

    class Stop(Listener):
        def begin(self, epochs: int, samples: int, done: int) -> None:
            self.epochs = epochs

        def epoch(self, record: EpochRecord) -> None:
            if self.epochs == 2:
                raise KeyboardInterrupt

    detector = Detector(settings=BRIEF, device="cpu")
    detector.fit(root, checkpoint=tmp_path / "saved", progress=Stop())
    assert detector.history.interrupted
    resumed = Detector(settings=BRIEF, device="cpu").fit(root, checkpoint=tmp_path / "saved", resume=True)
    straight = Detector(settings=BRIEF, device="cpu").fit(root)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name

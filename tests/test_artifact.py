import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_breast_cancer
from torch import Tensor

import memae.artifact
from memae import Detector
from memae.artifact import FORMAT, load_artifact, save_artifact
from memae.errors import ArtifactError
from memae.image.config import ImageConfig
from memae.modality import collect
from memae.video.events import ScoreSeries
from memae.video.predict import VideoReference
from tests.golden.make_golden import HERE as GOLDEN
from tests.golden.make_golden import data_of, images, model_directory, rows
from tests.moving_squares import Reel, squares

BRIEF = {"train": {"epochs": 3}, "memory": {"num_items": 12}}
GREY, SMALL_GREY = images()
TABLE, SMALL_TABLE = rows()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(settings=BRIEF).fit(TABLE)


@pytest.fixture
def saved(detector: Detector, tmp_path: Path) -> Path:
    detector.save(tmp_path / "model")
    return tmp_path / "model"


def contents(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def rewrite(saved: Path, change: Callable[..., Any]) -> None:
    """Changes config.json and makes its digest right again, as a careful author of a bad model would."""
    settings = json.loads((saved / "config.json").read_text())
    change(settings)
    settings.pop("config_sha256")
    settings["config_sha256"] = memae.artifact._digest(settings)
    (saved / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"memory": {"enabled": False}},
        {"threshold": {"calibration_share": 0}},
        {"image": {"scale": "centred"}, "table": {"number_scale": "minmax"}},
    ],
    ids=["default", "no memory", "no threshold", "scales"],
)
@pytest.mark.parametrize(("normal", "mixed"), [(GREY, SMALL_GREY), (TABLE, SMALL_TABLE)], ids=["image", "table"])
def test_what_was_saved_scores_exactly_as_before(
    tmp_path: Path, settings: dict[str, Any], normal: np.ndarray | pd.DataFrame, mixed: np.ndarray | pd.DataFrame
) -> None:
    other = "table" if normal is GREY else "image"
    settings = {section: values for section, values in settings.items() if section != other}
    before = Detector(settings=BRIEF | settings, seed=3).fit(normal)
    before.save(tmp_path / "model")
    after = Detector.load(tmp_path / "model", device="cpu")
    assert np.array_equal(after.score(mixed).values, before.score(mixed).values)
    assert after.config == before.config
    assert not after.model.training
    assert after.facts == json.loads(json.dumps(before.facts))
    assert [one.items for one in after.explain(mixed[:3])] == [one.items for one in before.explain(mixed[:3])]
    if settings != {"threshold": {"calibration_share": 0}}:
        assert list(after.detect(mixed)) == list(before.detect(mixed))
    if before.model.memory:
        assert np.array_equal(after.items().usage_counts, before.items().usage_counts)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(("normal", "mixed"), [(GREY, SMALL_GREY), (TABLE, SMALL_TABLE)], ids=["image", "table"])
def test_a_model_whose_memory_was_extended_is_saved_and_loaded(
    tmp_path: Path, trained: bool, normal: np.ndarray | pd.DataFrame, mixed: np.ndarray | pd.DataFrame
) -> None:
    memory = {**BRIEF["memory"], "trained": trained, "initialisation": "data"}
    before = Detector(settings=BRIEF | {"memory": memory}, device="cpu").fit(normal)
    plain = before.score(mixed).values
    encoded = before.preprocess.encode(collect(before.open(mixed[:3])))
    with torch.no_grad():
        before.model.memory.extend(before.model.queries(before.model.encode(encoded)).flatten(0, 1))
    before.save(tmp_path / "model")
    after = Detector.load(tmp_path / "model", device="cpu")
    assert not np.array_equal(before.score(mixed).values, plain)
    assert np.array_equal(after.score(mixed).values, before.score(mixed).values)
    assert after.model.memory.num_items == after.config.memory.num_items == 15
    for detector in (before, after):
        assert len(detector.items().usage_counts) == 15
        assert not detector.items().usage_counts[12:].any()
    after.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


def test_saving_what_was_loaded_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    Detector.load(saved, device="cpu").save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(saved)


def test_a_model_is_two_files_and_readable_by_whoever_reads_its_folder(saved: Path) -> None:
    assert sorted(contents(saved)) == ["config.json", "model.safetensors"]
    modes = {file.stat().st_mode & 0o777 for file in saved.iterdir()}
    assert len(modes) == 1
    assert json.loads((saved / "config.json").read_text())["format"] == FORMAT


def test_a_model_that_a_killed_process_had_moved_aside_comes_back(saved: Path) -> None:
    before = contents(saved)
    saved.rename(saved.parent / ".model.0.old")
    (saved.parent / ".model.0.part").mkdir()
    Detector.load(saved)
    assert contents(saved) == before
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


def test_loading_does_not_touch_the_random_state(saved: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    Detector.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere: no such model directory; check the path, or train one"):
        Detector.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("model.safetensors", r"model\.safetensors: missing; copy the whole model directory"),
        ("config.json", r"config\.json: missing, so this is no memae model; check the path"),
    ],
)
def test_a_missing_file_is_refused(saved: Path, name: str, what: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=what):
        Detector.load(saved)


@pytest.mark.parametrize("kept", [0, 1, 7, 100, -1])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_truncated_file_is_refused(saved: Path, name: str, kept: int) -> None:
    content = (saved / name).read_bytes().rstrip()
    (saved / name).write_bytes(content[:kept])
    with pytest.raises(ArtifactError, match=rf"{name}: .*copy the model again"):
        Detector.load(saved)


@pytest.mark.parametrize("place", [3, 200, -1])
def test_weights_of_which_one_bit_changed_are_refused(saved: Path, place: int) -> None:
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[place] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: is not the file that config\.json describes"):
        Detector.load(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"false_alarm_rate": 0.0', '"false_alarm_rate": 0.1'),
        ('"number_scale": "standard"', '"number_scale": "minmax"'),
        ('"centre": 1', '"centre": 2'),
        ('"config_sha256"', '"other_sha256"'),
        ('"seed": 0', '"seed": 1'),
    ],
)
def test_settings_that_were_edited_are_refused(saved: Path, old: str, new: str) -> None:
    text = (saved / "config.json").read_text()
    assert old in text
    (saved / "config.json").write_text(text.replace(old, new, 1))
    with pytest.raises(
        ArtifactError, match=r"config\.json: was changed after it was written; copy the model again"
    ):
        Detector.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"model"', "{}", '{"format": "1"}', "\xff"])
def test_settings_that_are_none_are_refused(saved: Path, text: str) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"config\.json: (not readable .*copy|has no format .*check the path)"):
        Detector.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings["config"]["memory"].update(num_items=11),
        lambda settings: settings["config"].update(network="kddcup"),
        lambda settings: settings["config"].update(network="image"),
        lambda settings: settings["config"].update(colour="red"),
        lambda settings: settings.pop("preprocess"),
        lambda settings: settings["preprocess"]["columns"].pop(),
        lambda settings: settings["preprocess"].update(kind="sound"),
        lambda settings: settings.update(config=[]),
        lambda settings: settings.update(threshold={}),
        lambda settings: settings.update(threshold=[0.1]),
        lambda settings: settings.update(preprocess="none"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(saved: Path, change: Callable[..., Any]) -> None:
    rewrite(saved, change)
    with pytest.raises(ArtifactError, match=r"model: the files do not fit together .*; copy the model again"):
        Detector.load(saved)


def test_weights_of_another_model_are_refused(saved: Path, tmp_path: Path) -> None:
    Detector(settings=BRIEF).fit(GREY).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: is not the file that config\.json describes"):
        Detector.load(saved)
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    rewrite(saved, lambda settings: settings.update(model_sha256=digest))
    with pytest.raises(ArtifactError, match=r"model: the files do not fit together .*; copy the model again"):
        Detector.load(saved)


def test_a_newer_format_is_refused(saved: Path) -> None:
    rewrite(saved, lambda settings: settings.update(format=FORMAT + 1))
    with pytest.raises(
        ArtifactError, match=rf"config\.json: is of format {FORMAT + 1}, .* {FORMAT}; upgrade memae"
    ):
        Detector.load(saved)


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (Path(self.path),)


def test_the_payload_of_these_tests_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "was-run")))
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", ["extra.pkl", "extra.pt", "extra.BIN", "notes.txt", "deep/inside.dat"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_in_the_directory_is_refused_and_never_run(
    saved: Path, tmp_path: Path, name: str, protocol: int
) -> None:
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).write_bytes(pickle.dumps(Payload(tmp_path / "was-run"), protocol=protocol))
    with pytest.raises(ArtifactError, match=rf"{Path(name).name}: may hold a pickle, .*Remove the file"):
        Detector.load(saved)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("content", ["pickle", "old pickle", "torch.save"])
def test_weights_that_are_a_pickle_are_refused_and_never_run(saved: Path, tmp_path: Path, content: str) -> None:
    weights, payload = saved / "model.safetensors", Payload(tmp_path / "was-run")
    if content == "torch.save":
        torch.save({"payload": payload}, weights)
    else:
        weights.write_bytes(pickle.dumps(payload, protocol=0 if content == "old pickle" else 4))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    rewrite(saved, lambda settings: settings.update(model_sha256=digest))
    with pytest.raises(
        ArtifactError, match=r"model.*(may hold a pickle|do not fit together .*copy the model again)"
    ):
        Detector.load(saved)
    assert not (tmp_path / "was-run").exists()


def test_a_header_whose_length_looks_like_the_start_of_a_pickle_is_none(saved: Path) -> None:
    weights = saved / "model.safetensors"
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    longer = next(size for size in (0x280, 0x380, 0x480, 0x580) if size >= length)  # 80 02 to 80 05, and zeros
    weights.write_bytes(
        longer.to_bytes(8, "little") + content[8 : 8 + length].ljust(longer) + content[8 + length :]
    )
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    rewrite(saved, lambda settings: settings.update(model_sha256=digest))
    assert len(Detector.load(saved).score(SMALL_TABLE)) == len(SMALL_TABLE)


def set_in(settings: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for parent in parents:
        settings = settings[int(parent) if isinstance(settings, list) else parent]
    settings[last] = value


HOSTILE_SETTINGS: list[tuple[str, Any]] = [
    ("facts", []),
    ("facts", None),
    ("facts", {}),
    ("facts/samples", 3),
    ("facts/samples", {"training": "many", "calibration": 1}),
    ("facts/seed", -1),
    ("facts/seed", "0"),
    ("facts/parameters", None),
    ("threshold", 0.1),
    ("threshold", {"false_alarm_rate": "0.1"}),
    ("threshold", {"false_alarm_rate": None}),
    ("threshold", {"false_alarm_rate": 7.0}),
    ("threshold", {"false_alarm_rate": float("nan")}),
    ("threshold", {}),
    ("preprocess/columns", []),
    ("preprocess/columns/0/spread", 0.0),
    ("preprocess/columns/0/spread", float("inf")),
    ("preprocess/columns/0/centre", float("nan")),
    ("preprocess/columns/0/centre", 10**400),
    ("config/memory/temperature", float("nan")),
    ("config/memory/temperature", 10**400),
    ("facts/teachings", [{"when": "today"}]),
    ("sample_keys", []),
    ("sample_keys", [1, 2]),
    ("format", True),
    ("format", -3),
    ("format", 9.5),
]


@pytest.mark.parametrize(("place", "value"), HOSTILE_SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_of_a_hostile_model_are_refused(saved: Path, place: str, value: Any) -> None:
    rewrite(saved, lambda settings: set_in(settings, place, value))
    with pytest.raises(ArtifactError):
        Detector.load(saved)


HOSTILE_TENSORS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "NaN weights": lambda tensors: tensors["model.encoder.0.weight"].fill_(torch.nan),
    "one infinite weight": lambda tensors: tensors["model.memory.items"].view(-1)[3:4].fill_(torch.inf),
    "weights beyond float32": lambda tensors: tensors.update(
        {"model.memory.items": tensors["model.memory.items"].double() * 1e300}
    ),
    "NaN scores": lambda tensors: tensors["calibration"][-1:].fill_(torch.nan),
    "infinite scores": lambda tensors: tensors["calibration"][-1:].fill_(torch.inf),
    "scores of rank 2": lambda tensors: tensors.update(calibration=tensors["calibration"][None].clone()),
    "scores of rank 0": lambda tensors: tensors.update(calibration=tensors["calibration"][0].clone()),
    "no scores": lambda tensors: tensors.update(calibration=tensors["calibration"][:0].clone()),
    "scores in disorder": lambda tensors: tensors.update(calibration=tensors["calibration"].flip(0)),
    "whole numbers as scores": lambda tensors: tensors.update(calibration=tensors["calibration"].long()),
    "groups of another length": lambda tensors: tensors.update(
        calibration_groups=torch.zeros(3, dtype=torch.long)
    ),
    "uses of rank 2": lambda tensors: tensors.update(uses=tensors["uses"][None].clone()),
    "uses below 0": lambda tensors: tensors["uses"].fill_(-1),
    "uses with a fraction": lambda tensors: tensors.update(uses=tensors["uses"].float()),
    "too few uses": lambda tensors: tensors.update(uses=tensors["uses"][:3].clone()),
    "items of another width": lambda tensors: tensors.update(
        {"model.memory.items": tensors["model.memory.items"][:, :-1].clone()}
    ),
    "held-out samples of another width": lambda tensors: tensors.update(held_out=torch.zeros(3, 99)),
    "held-out groups of another length": lambda tensors: tensors.update(held_out_groups=torch.zeros(1).long()),
    "nearest samples that are not there": lambda tensors: tensors["item_samples.nearest"].fill_(10**6),
    "rows of more samples than keys": lambda tensors: tensors.update(
        {"item_samples.rows": tensors["item_samples.rows"].repeat(2, 1)}
    ),
    "corrections of another shape": lambda tensors: tensors.update({"model.corrections": torch.zeros(1, 2)}),
    "tensors that no teaching replaced": lambda tensors: tensors.update({"replaced.0.uses": torch.zeros(1)}),
    "a layer too many": lambda tensors: tensors.update({"model.encoder.9.weight": torch.zeros(2)}),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_tensors_of_a_hostile_model_are_refused(saved: Path, name: str) -> None:
    rewrite_tensors(saved, HOSTILE_TENSORS[name])
    with pytest.raises(ArtifactError, match=r"model: the files do not fit together .*; copy the model again"):
        Detector.load(saved)


@pytest.mark.parametrize("depth", [900, 100_000])
def test_settings_that_are_too_deep_are_refused(saved: Path, detector: Detector, depth: int) -> None:
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text('{"more": ' + "[" * depth + "]" * depth + "," + text[1:])
    with pytest.raises(ArtifactError, match=r"config\.json: "):
        Detector.load(saved)
    with pytest.raises(ArtifactError, match="exists and is no memae model") if depth > 900 else nullcontext():
        detector.save(saved)


LOAD_IN_LITTLE_MEMORY = """
import resource, sys, torch
from memae import Detector
from memae.errors import ArtifactError
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (512 << 20), taken + (512 << 20)))
try:
    Detector.load(sys.argv[1])
except ArtifactError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory that is taken")
def test_a_small_file_that_asks_for_a_large_memory_takes_none(saved: Path) -> None:
    rewrite(saved, lambda settings: settings["config"]["memory"].update(num_items=50_000_000, trained=True))
    command = [sys.executable, "-c", LOAD_IN_LITTLE_MEMORY, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'memory.items' is of shape (12, " in done.stdout
    assert "the settings ask for (50000000, " in done.stdout


def test_settings_that_are_a_pickle_are_refused_and_never_run(saved: Path, tmp_path: Path) -> None:
    (saved / "config.json").write_bytes(pickle.dumps(Payload(tmp_path / "was-run"), protocol=0))
    with pytest.raises(ArtifactError, match=r"config\.json: not readable .*; copy the model again"):
        Detector.load(saved)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "years of work"},
        {"config.json": "{}"},
        {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights of another library"},
        {"config.json": "half a mod"},
    ],
    ids=["files", "other settings", "other model", "damaged"],
)
def test_what_is_no_model_is_never_replaced(detector: Detector, tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / "mine" / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(ArtifactError, match=r"mine: exists and is no memae model.*choose another place"):
        detector.save(tmp_path / "mine")
    assert contents(tmp_path) == before


def test_a_file_of_the_users_beside_an_old_model_is_not_lost(detector: Detector, saved: Path) -> None:
    (saved / "notes.md").write_text("trained on Tuesday")
    before = contents(saved)
    with pytest.raises(ArtifactError, match=r"model: exists and .* holds other files too; choose another place"):
        detector.save(saved)
    assert contents(saved) == before


def test_a_file_is_never_replaced_by_a_model(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    for place in (tmp_path / "model", tmp_path / "model" / "below"):
        with pytest.raises(ArtifactError, match=r"model.*; choose another place"):
            detector.save(place)
    assert contents(tmp_path) == {"model": b"a file"}


def test_an_empty_directory_takes_a_model(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    detector.save(tmp_path / "model")
    assert sorted(contents(tmp_path)) == ["model/config.json", "model/model.safetensors"]


def test_an_old_model_is_replaced(saved: Path) -> None:
    other = Detector(settings=BRIEF, seed=5).fit(GREY)
    other.save(saved)
    assert np.array_equal(Detector.load(saved).score(SMALL_GREY).values, other.score(SMALL_GREY).values)
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_model_and_no_litter(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(tensors: dict[str, torch.Tensor], path: Path) -> NoReturn:
        Path(path).write_bytes(b"half of the wei")
        raise error

    before = contents(saved.parent)
    other = Detector(settings=BRIEF, seed=5).fit(TABLE)
    monkeypatch.setattr(memae.artifact, "save_file", fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ArtifactError
    with pytest.raises(expected) as caught:
        other.save(saved)
    if expected is ArtifactError:
        assert str(caught.value).startswith(f"{saved}: cannot be written, no space left")
    assert contents(saved.parent) == before
    Detector.load(saved)


@pytest.mark.parametrize(("name", "form"), [("image", 1), ("table", 1), ("video", 2)])
def test_golden_models_of_older_versions_are_still_read(tmp_path: Path, name: str, form: int) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    _, mixed = data_of(name, tmp_path / "data")
    (tmp_path / "model").mkdir()
    model = model_directory(name, tmp_path / "model")
    assert json.loads((model / "config.json").read_text())["format"] == form
    detector = Detector.load(model, device="cpu")
    verdicts = detector.detect(mixed)
    assert verdicts.scores == pytest.approx(expected["scores"], rel=1e-4)
    assert verdicts.threshold == pytest.approx(expected["threshold"], rel=1e-4)
    assert verdicts.p_values == pytest.approx(expected["p_values"], abs=0.06)  # a score that crosses one other
    assert verdicts.is_anomaly.tolist() == expected["is_anomaly"]
    assert 0 < sum(expected["is_anomaly"]) < len(expected["is_anomaly"])
    assert detector.items() is not None
    if name != "video":
        assert len(detector.explain(mixed[:2])) == 2
        return
    assert len(detector.explain(mixed, keys=verdicts.keys[:2])) == 2
    assert detector.event_threshold(3600).on_threshold > detector.event_threshold(36_000).on_threshold


def with_former_names(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a model of images as formats up to 9 had it, with sections of other kinds of data, too."""
    found = {name: dict(part) if isinstance(part, dict) else part for name, part in config.items()}
    own = found.pop("image")
    for former, name in ImageConfig.former_names.items():
        section, key = former.split(".")
        found.setdefault(section, {})[key] = own.pop(name)
    assert set(own) == {
        "backbone",
        "backbone_outputs",
        "filters",
        "keep_aspect",
    }  # which these formats did not know
    found["preprocess"] |= {"number_scale": "standard", "duplicates": "keep"}
    return found | {"video": {"height": 256, "stride": 16, "score": "mean"}}


def test_a_model_of_large_images_from_before_scenes_keeps_its_layers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (24, 66, 70), dtype=np.uint8)
    old = {**BRIEF, "network": "image", "image": {"relative": False, "patch_px": 1, "filters": False}}
    before = Detector("image", settings=old, device="cpu").fit(pictures)
    before.save(tmp_path / "model")

    def of_before(settings: dict[str, Any]) -> None:
        settings.update(format=5, config=with_former_names(settings["config"]))
        del settings["config"]["score"]["relative"], settings["config"]["score"]["square_px"]

    rewrite(tmp_path / "model", of_before)
    after = Detector.load(tmp_path / "model", device="cpu")
    assert next(after.model.encoder.children()).in_channels == 1
    assert np.array_equal(after.score(pictures).values, before.score(pictures).values)


def test_a_model_from_before_squares_still_looks_at_pixels(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (24, 66, 70), dtype=np.uint8)
    old = {**BRIEF, "image": {"patch_px": 1, "filters": False}}
    before = Detector("image", settings=old, device="cpu").fit(pictures)
    before.save(tmp_path / "model")

    def of_before(settings: dict[str, Any]) -> None:
        settings.update(format=8, config=with_former_names(settings["config"]))
        del settings["config"]["score"]["square_px"]

    rewrite(tmp_path / "model", of_before)
    after = Detector.load(tmp_path / "model", device="cpu")
    assert after.explain(pictures[:1])[0].anomaly_map.shape == (66, 70)
    assert np.array_equal(after.score(pictures).values, before.score(pictures).values)


@pytest.mark.parametrize("side", [64, 66])
def test_a_scene_of_before_is_refused_where_its_layers_were_others(tmp_path: Path, side: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (24, side, side), dtype=np.uint8)
    Detector("image", settings=BRIEF, device="cpu").fit(pictures).save(tmp_path / "model")
    rewrite(
        tmp_path / "model",
        lambda settings: settings.update(format=7, config=with_former_names(settings["config"])),
    )
    if side == 64:  # nothing is folded there
        assert len(Detector.load(tmp_path / "model", device="cpu").score(pictures)) == 24
    else:
        with pytest.raises(
            ArtifactError, match="of format 7, whose network 'scene' was wider; train the model again"
        ):
            Detector.load(tmp_path / "model", device="cpu")


def test_golden_models_are_small_and_tell_nothing_of_the_machine_they_came_from() -> None:
    for name in ("image", "table", "video"):
        assert sum(len(content) for content in contents(GOLDEN / name).values()) < 50_000
        assert json.loads((GOLDEN / name / "config.json").read_text())["facts"]["origin"].startswith("the ")


def test_a_frame_trained_on_text_labels_is_read_back_with_its_schema(saved: Path) -> None:
    loaded = Detector.load(saved)
    assert np.isfinite(loaded.score(SMALL_TABLE.assign(shape="never seen")).values).all()
    data = load_breast_cancer(as_frame=True).frame
    with pytest.raises(Exception, match="no column 'shape'"):
        loaded.score(pd.DataFrame(data.iloc[:, :5]))


VIDEO: dict[str, Any] = {
    "video": {
        "height": 16,
        "width": 24,
        "crop_px": 8,
        "clip_length": 4,
        "stride": 2,
        "training_stride": 2,
        "place_px": 4,
    },
    "train": {"epochs": 1},
    "memory": {"num_items": 8, "warmup_epochs": 0},
}
TAPES = Reel({name: squares(30, 16, 24, seed=seed) for seed, name in enumerate(("a", "b"))})
NEW_TAPE = Reel({"new": squares(20, 16, 24, seed=5, speed=3)})


@pytest.fixture(scope="module")
def of_video() -> Detector:
    return Detector(settings=VIDEO).fit(TAPES)


@pytest.fixture
def saved_video(of_video: Detector, tmp_path: Path) -> Path:
    of_video.save(tmp_path / "model")
    return tmp_path / "model"


def rewrite_tensors(saved: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Changes model.safetensors and makes the digests right again."""
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    rewrite(saved, lambda settings: settings.update(model_sha256=digest))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"memory": {"enabled": False}},
        {"threshold": {"calibration_share": 0}},
        {"video": VIDEO["video"] | {"score": "mean", "input": "frames"}},
        {"video": VIDEO["video"] | {"dilation": 2, "crop_px": None}},
    ],
    ids=["default", "no memory", "no threshold", "mean", "dilation"],
)
def test_a_saved_model_of_video_scores_exactly_as_before(tmp_path: Path, settings: dict[str, Any]) -> None:
    before = Detector(settings=VIDEO | settings, seed=3).fit(TAPES)
    before.save(tmp_path / "model")
    after = Detector.load(tmp_path / "model", device="cpu")
    assert np.array_equal(after.score(NEW_TAPE).values, before.score(NEW_TAPE).values)
    assert after.config == before.config
    assert after.preprocess == before.preprocess
    assert [one.items for one in after.explain(NEW_TAPE)] == [one.items for one in before.explain(NEW_TAPE)]
    stored, kept = after._fitted, before._fitted
    assert len(stored.reference.series) == len(kept.reference.series) == (0 if "threshold" in settings else 8)
    for one, other in zip(stored.reference.series, kept.reference.series, strict=True):
        assert np.array_equal(one.times_s, other.times_s)
        assert np.array_equal(one.scores, other.scores)
    after.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


def test_footage_of_more_than_ten_pieces_keeps_its_order(of_video: Detector, tmp_path: Path) -> None:
    times = np.arange(5) / 25
    pieces = tuple(ScoreSeries(times + 0, np.full(5, float(number))) for number in range(12))
    save_artifact(replace(of_video._fitted, reference=VideoReference(pieces)), tmp_path / "model")
    again = load_artifact(tmp_path / "model").reference.series
    assert [piece.scores.tolist() for piece in again] == [[float(number)] * 5 for number in range(12)]
    assert all(np.array_equal(piece.times_s, times) for piece in again)


@pytest.mark.parametrize(
    "name",
    [
        "normal.0.times_s",
        "normal.0.scores",
        "calibration",
        "uses",
        "model.memory.items",
    ],
)
def test_a_model_of_video_that_lacks_a_part_is_refused(saved_video: Path, name: str) -> None:
    rewrite_tensors(saved_video, lambda tensors: tensors.pop(name))
    with pytest.raises(ArtifactError, match=r"model: the files do not fit together .*; copy the model again"):
        Detector.load(saved_video)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings["config"].update(network="image"),
        lambda settings: settings["config"]["video"].update(input="colours"),
        lambda settings: settings["preprocess"].update(height=18),
        lambda settings: settings["preprocess"].pop("clip_length"),
    ],
)
def test_a_model_of_video_whose_settings_do_not_fit_is_refused(
    saved_video: Path, change: Callable[..., Any]
) -> None:
    rewrite(saved_video, change)
    with pytest.raises(ArtifactError, match=r"model: the files do not fit together .*; copy the model again"):
        Detector.load(saved_video)

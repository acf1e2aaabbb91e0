import pytest
import torch

from memae import native
from memae.image.byte_sums import byte_sums


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(3, 1, 7, 5), (2, 3, 256, 300), (1, 1, 1, 1), (0, 3, 4, 4)])
def test_sums_are_exact(monkeypatch, compiled, shape):
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    wide = pixels.flatten(1).long()
    assert byte_sums(pixels).tolist() == torch.stack([wide.sum(1), wide.square().sum(1)], dim=1).tolist()


@pytest.mark.parametrize("compiled", [True, False])
def test_the_brightest_image_does_not_overflow(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    pixels = torch.full((1, 3, 4000, 3000), 255, dtype=torch.uint8)
    assert byte_sums(pixels).tolist() == [[255 * pixels.numel(), 255**2 * pixels.numel()]]


def test_the_layout_does_not_matter():
    pixels = torch.randint(0, 256, (4, 6, 5, 3), dtype=torch.uint8).movedim(-1, 1)[::2]
    assert byte_sums(pixels).tolist() == byte_sums(pixels.contiguous()).tolist()


@pytest.mark.skipif(not native.available(), reason="memae was installed without a compiler")
@pytest.mark.parametrize("width", native.widths())
def test_each_width_of_registers_finds_the_same(monkeypatch, width):
    library = native.loaded(width)
    assert library is not None
    monkeypatch.setattr(native, "library", lambda: library)
    pixels = torch.randint(0, 256, (2, 40_001), dtype=torch.uint8)
    wide = pixels.long()
    assert byte_sums(pixels).tolist() == torch.stack([wide.sum(1), wide.square().sum(1)], dim=1).tolist()

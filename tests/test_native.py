import shutil

import pytest
import torch

from memae import native


@pytest.mark.skipif(not shutil.which("g++"), reason="memae is built where there is a compiler")
def test_where_there_is_a_compiler_the_library_is_there():
    """Else all tests of it are skipped, and nobody is told."""
    assert native.available()


def test_the_library_that_fits_the_processor_is_the_first_that_is_tried(monkeypatch):
    asked = []
    monkeypatch.setattr(native, "find_spec", asked.append)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    native.library.cache_clear()
    try:
        assert not native.available()
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
    assert asked == ["memae.native._avx2", "memae.native._any"]

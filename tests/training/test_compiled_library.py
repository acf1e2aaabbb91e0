import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from memae.training import compiled_gradients
from memae.training.compiled_gradients import library


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The library is looked for anew in the test, and once more after it."""
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.mark.skipif(not shutil.which("g++"), reason="memae is built where there is a compiler")
def test_where_there_is_a_compiler_the_library_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all tests of it are skipped, and nobody is told."""
    monkeypatch.delenv("MEMAE_COMPILED", raising=False)
    assert compiled_gradients.available()


@pytest.mark.usefixtures("forgotten")
def test_the_library_that_fits_the_processor_is_the_first_that_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(library, "find_spec", asked.append)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not library.available()
    folder = "memae.training.compiled_gradients"
    assert asked == [f"{folder}._avx2", f"{folder}._any"]


@pytest.mark.usefixtures("forgotten")
def test_a_library_of_another_interface_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
    assert not library.available()


@pytest.mark.parametrize(("value", "there"), [("0", False), ("1", True), (None, True)])
def test_an_environment_variable_switches_it_off(
    monkeypatch: pytest.MonkeyPatch, value: str | None, there: bool
) -> None:
    if library.library() is None:
        pytest.skip("memae was installed without a compiler")
    if value is None:
        monkeypatch.delenv("MEMAE_COMPILED", raising=False)
    else:
        monkeypatch.setenv("MEMAE_COMPILED", value)
    assert compiled_gradients.available() is there

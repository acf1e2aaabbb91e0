import doctest
import importlib
import importlib.resources
import pkgutil
import subprocess
import sys

import pytest

import memae

PUBLIC = [
    "Autoencoder",
    "Config",
    "Detector",
    "Evaluation",
    "Explanation",
    "MemAE",
    "MemaeError",
    "MemoryItems",
    "MemoryRead",
    "Scores",
    "Threshold",
    "Verdict",
    "Verdicts",
    "evaluate",
    "read_memory",
]
FOUND = [found.name for found in pkgutil.walk_packages(memae.__path__, "memae.")]
COMPILED = "memae.training.compiled_gradients._"  # libraries, and no modules of Python
FOUND = [name for name in FOUND if not name.startswith(COMPILED)]
MODULES = ["memae", *sorted(name for name in FOUND if name != "memae.__main__")]  # importing that one runs it


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_the_public_names_are_these_and_at_most_15() -> None:
    assert memae.__all__ == PUBLIC
    assert len(PUBLIC) <= 15
    assert sorted(name for name in dir(memae) if not name.startswith("_")) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_a_documented_class_or_function(name: str) -> None:
    thing = getattr(memae, name)
    assert callable(thing)
    assert thing.__name__ == name
    assert thing.__doc__


def test_what_is_no_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'memae' has no attribute 'detecter'"):
        memae.detecter


def test_importing_memae_loads_no_heavy_library() -> None:
    loaded = python("import memae, sys\nprint(*sys.modules)").split()
    assert "memae" in loaded
    for heavy in ("torch", "numpy", "pyarrow", "sklearn", "accelerate", "matplotlib", "pandas"):
        assert heavy not in loaded


def test_every_public_name_is_loaded_when_it_is_asked_for() -> None:
    names = python("import memae\nprint(*[getattr(memae, name).__name__ for name in memae.__all__])").split()
    assert names == PUBLIC


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("memae").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for_and_its_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip()
    assert doctest.testmod(module).failed == 0

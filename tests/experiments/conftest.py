import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.protocols import images, kddcup, ped2
from tests.small_data import write_cifar10, write_kddcup99, write_mnist, write_ped2


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forgets the data sets that the protocols have read, before and after."""
    caches = images._mnist, images._cifar10, kddcup.features, kddcup._kinds, ped2.labels
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_mnist(root)
    write_cifar10(root)
    write_kddcup99(root)
    return root


@pytest.fixture
def small_data(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> Path:
    """Stand-ins for MNIST, CIFAR-10 and KDDCUP99 in place of the real files; the folder that holds them."""
    root = tmp_path / "data"
    shutil.copytree(stand_ins, root)
    monkeypatch.setenv("MEMAE_DATA", str(root))
    return root


@pytest.fixture
def small_ped2(small_data: Path) -> Path:
    """A stand-in for Ped2 as well."""
    write_ped2(small_data)
    return small_data / "ucsd_ped2"

import pytest
from small_data import write_kddcup99, write_mnist

from experiments import protocols


@pytest.fixture
def fresh():
    """Forgets the data sets that the protocols have read, before and after."""
    caches = protocols._mnist, protocols.kddcup_features
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def small_data(tmp_path, monkeypatch, fresh):
    """Stand-ins for MNIST and KDDCUP99 in place of the real files; the folder that holds them."""
    root = tmp_path / "data"
    write_mnist(root)
    write_kddcup99(root)
    monkeypatch.setenv("MEMAE_DATA", str(root))
    return root

import pytest

from tests.progress.following import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("memae.progress.work.time.monotonic", clock)
    return clock

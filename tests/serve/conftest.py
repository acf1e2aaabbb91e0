from collections.abc import Iterator, Mapping

import pytest

from memae import Detector
from memae.web import Limits
from tests.serve.served import Client, serving
from tests.small_detectors import ONES, ROWS, fit


@pytest.fixture(scope="session")
def models() -> Mapping[str, Detector]:
    """A model of rows and one of images, on one thread of the CPU."""
    return {"rows": fit(ROWS), "images": fit(ONES)}


@pytest.fixture(scope="module")
def client(models: Mapping[str, Detector]) -> Iterator[Client]:
    """Of a server without a token."""
    with serving(models, Limits(body_bytes=1 << 20, rows=500, px=5000, images=8)) as client:
        yield client

"""Asks the client's cache, as HF_HUB_OFFLINE is set, for a model that is not there."""

from memae import Detector
from memae.errors import ArtifactError

try:
    Detector.load("hf://team/none")
except ArtifactError as error:
    assert "this revision is not in the cache" in str(error), error
else:
    raise AssertionError("a model that is nowhere was loaded")

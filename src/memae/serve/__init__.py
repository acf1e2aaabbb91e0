"""Scores over HTTP: images and rows go in, verdicts come out, of models that were loaded at the start.

`create_app` makes an ASGI application of detectors; `run` serves it with uvicorn. No route takes a path, and none loads
a model. Read `app` first, then `bodies`, `batching` and `answers`; `memae.web` stands before all of them.
"""

from memae.serve.app import create_app, run

__all__ = ["create_app", "run"]

"""Scores over HTTP: images and rows go in, verdicts come out, of models that were loaded at the start.

`create_app` makes an ASGI application of detectors; `run` serves it with uvicorn. No route takes a path, and none loads
a model. A request goes through `memae.web`, `routes`, `bodies`, `service`, `batching` and `answers`, in this order.
"""

from memae.serve.app import create_app, run

__all__ = ["create_app", "run"]

"""The page of a watch: cameras, scores and events in a browser, and what may be changed from there.

`memae.live.controls` says what the page asks of a watch, `app` has its routes, `login` who may use them, `feed` the
stream of messages, and `static/page.js` what runs in the browser.
"""

from __future__ import annotations

from memae.live.controls import CameraState, Watched
from memae.live.page.app import create_app
from memae.live.page.feed import Feed
from memae.live.page.server import PageServer, listen

__all__ = ["CameraState", "Feed", "PageServer", "Watched", "create_app", "listen"]

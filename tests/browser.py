"""A real browser for tests of pages; the fixture `browser` of conftest.py drives it."""

import shutil

import pytest

__all__ = ["BROWSER", "needs_browser"]

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; install it: make services")

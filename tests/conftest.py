import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.browser import BROWSER

pytest.register_assert_rewrite("tests.contract")

# A shell that starts a job behind itself lets it ignore Ctrl-C, and tests that press it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The networks here are tiny: a second thread gains nothing, and on a busy machine it costs ten times the time.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The footage of small_footage, and camera.model, which the command line made of its normal part."""
    from memae.cli import main
    from tests.small_footage import BRIEF, write_footage

    path = write_footage(tmp_path_factory.mktemp("footage"))
    words = [word for setting in BRIEF for word in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(sys, "argv", ["memae", "fit", "normal", "--out", "camera.model", "--quiet", *words])
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
    return path

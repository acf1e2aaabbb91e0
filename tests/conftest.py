import signal
import sys
from pathlib import Path

import pytest
import torch

pytest.register_assert_rewrite("tests.contract")

# A shell that starts a job behind itself lets it ignore Ctrl-C, and tests that press it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The networks here are tiny: a second thread gains nothing, and on a busy machine it costs ten times the time.
torch.set_num_threads(1)


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

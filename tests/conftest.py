import signal

import pytest
import torch

pytest.register_assert_rewrite("tests.contract")

# A shell that starts a job behind itself lets it ignore Ctrl-C, and tests that press it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The networks here are tiny: a second thread gains nothing, and on a busy machine it costs ten times the time.
torch.set_num_threads(1)

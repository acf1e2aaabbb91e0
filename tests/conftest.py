import pytest
import torch

pytest.register_assert_rewrite("contract")

# The networks here are tiny: a second thread gains nothing, and on a busy machine it costs ten times the time.
torch.set_num_threads(1)

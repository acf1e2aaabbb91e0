"""Without a compiler nothing is compiled; `plain.py` has shown that all works."""

from memae.training.compiled_gradients import available

assert not available()

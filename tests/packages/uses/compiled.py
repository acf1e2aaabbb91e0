"""The wheel for this machine has the compiled gradients."""

from memae.training.compiled_gradients import available

assert available()

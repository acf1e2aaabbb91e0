"""The old place of `memae.datasets`; it goes with 0.2.0."""

from memae.datasets import breast_cancer, cifar10, data_root, digits, kddcup99, mnist

__all__ = ["breast_cancer", "cifar10", "data_root", "digits", "kddcup99", "mnist"]

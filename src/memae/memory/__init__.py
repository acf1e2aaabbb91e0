"""The memories: what normality is stored in, how it is read, started and watched over.

`base` has the interface, and each family lies in a file of its own. To import this package registers them all.
"""

from memae.memory import memae

__all__ = ["memae"]

"""What is done when memory runs out: fewer samples at a time, said aloud, and kept to from then on."""

from __future__ import annotations

from memae.errors import MemaeError, OutOfMemoryError
from memae.stages import Watcher

__all__ = ["Room", "ran_out"]

# What torch's CPU allocator, oneDNN and the C++ library say; the accelerator has a class of its own.
_SAID = ("can't allocate memory", "cannot allocate memory", "bad_alloc", "out of memory", "could not allocate")


def ran_out(error: BaseException) -> bool:
    """Whether an error means that there was no memory left."""
    if isinstance(error, MemaeError):
        return False
    if isinstance(error, MemoryError):  # Arrow's and numpy's too
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


class Room:
    """How many samples there is room for at once.

    Args:
        doing: what they are needed for, such as "scoring".
        watcher: told when there are fewer.
        least: the smallest number that makes sense.
    """

    def __init__(self, doing: str, watcher: Watcher | None = None, least: int = 1) -> None:
        self._doing, self._watcher, self._least = doing, watcher, least
        self.most: int | None = None
        """None while memory has not run out."""

    def fit(self, wanted: int) -> int:
        """As many of the wanted samples as there is room for."""
        return wanted if self.most is None else min(wanted, self.most)

    def halve(self, error: BaseException, tried: int) -> None:
        """Takes half of what was tried, after an error; any other error than one of memory is raised again.

        Raises:
            OutOfMemoryError: there is not even room for the least.
        """
        if not ran_out(error):
            raise error
        if tried // 2 < self._least:
            raise OutOfMemoryError(
                f"out of memory while {self._doing} {tried} sample{'s' * (tried != 1)} at once, the least there can "
                "be; close other programs, take smaller samples or a smaller network, or a machine with more memory"
            ) from None
        self.most = self.fit(tried // 2)  # another thread may have halved it further
        _release()
        if self._watcher:
            self._watcher.warn(f"out of memory while {self._doing} {tried:,} samples at once; now {self.most:,}")


def _release() -> None:
    """Gives the accelerator's cached blocks back, so that they can be cut anew."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()

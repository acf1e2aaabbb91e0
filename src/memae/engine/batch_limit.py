"""Smaller batches after memory has run out: half as many samples, a warning, and no more than that from then on."""

from __future__ import annotations

from memae.errors import MemaeError, OutOfMemoryError
from memae.progress import Progress, Warn, tell

__all__ = ["BatchLimit", "ran_out"]

# What torch's CPU allocator, oneDNN and the C++ library say; the accelerator has a class of its own.
_SAID = ("can't allocate memory", "cannot allocate memory", "bad_alloc", "out of memory", "could not allocate")


def ran_out(error: BaseException) -> bool:
    """Whether an error means that there was no memory left."""
    if isinstance(error, MemaeError):
        return False
    if isinstance(error, MemoryError):  # Arrow's and numpy's too
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


class BatchLimit:
    """The largest batch that memory allows, as far as is known.

    Args:
        doing: what the batch is for, such as "scoring"; a word of the warning.
        progress: gets a warning when the limit falls.
        least: the smallest batch that makes sense.
    """

    def __init__(self, doing: str, progress: Progress | None = None, least: int = 1) -> None:
        self._doing, self._progress, self._least = doing, progress, least
        self.most: int | None = None
        """Samples; None while memory has not run out."""

    def fit(self, wanted: int) -> int:
        """The wanted number of samples, or the limit where that is lower."""
        return wanted if self.most is None else min(wanted, self.most)

    def halve(self, error: BaseException, tried: int) -> None:
        """Lowers the limit to half of the batch that failed; an error that is not about memory is raised again.

        Raises:
            OutOfMemoryError: half of it would be less than `least`.
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
        message = f"out of memory while {self._doing} {tried:,} samples at once; now {self.most:,}"
        tell(self._progress, Warn(message))


def _release() -> None:
    """Frees the accelerator's cached blocks: they have the size of the batch that failed."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()

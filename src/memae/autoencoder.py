"""Encoder, memory, decoder: the whole of MemAE in one forward pass."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from memae.memory.memae import MemoryModule
from memae.memory.ops import MemoryRead

__all__ = ["Autoencoder", "Reconstruction"]


class Reconstruction(NamedTuple):
    """What a model makes of a batch."""

    x: Tensor
    """The rebuilt batch, of the shape of the input."""
    read: MemoryRead | None
    """How the memory was read; None for a plain autoencoder."""
    positions: tuple[int, ...] = ()
    """The map of positions that asked the memory, sample by sample; () where each sample is one query."""


class Autoencoder(nn.Module):
    """x -> encoder -> memory -> decoder -> x^. With `memory=None` it is the plain autoencoder.

    Any module fits: the encoder gives (B, C) or (B, C, ...), the decoder takes that and gives the shape of x.

    >>> import torch
    >>> net = Autoencoder(nn.Linear(8, 3), MemoryModule(50, 3), nn.Linear(3, 8))
    >>> net(torch.zeros(4, 8)).x.shape
    torch.Size([4, 8])
    """

    def __init__(self, encoder: nn.Module, memory: MemoryModule | None, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.memory, self.decoder = encoder, memory, decoder

    def forward(self, x: Tensor) -> Reconstruction:
        """Rebuilds a batch (B, ...)."""
        encoding = self.encoder(x)
        if self.memory is None:
            return Reconstruction(self.decoder(encoding), None)
        read: MemoryRead = self.memory(encoding)
        positions = tuple(encoding.shape[2:]) if self.memory.query == "position" else ()
        return Reconstruction(self.decoder(read.value), read, positions)

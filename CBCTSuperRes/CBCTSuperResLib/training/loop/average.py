"""The running mean of a network's weights (EMA), which is what validation and export use."""

from __future__ import annotations

import copy

import torch
from torch import nn

FIRST, SLOWNESS = 1, 10


class Average:
    """Follows a network with the decay min(decay, (1 + n) / (10 + n)), n the number of updates so far.

    Parameters
    ----------
    network : Module
    decay : float
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, updates: int) -> None:
        """Move towards the network after its update number `updates`."""
        decay = min(self._decay, (FIRST + updates) / (SLOWNESS + updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for kept, current in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(current)

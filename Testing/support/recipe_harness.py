"""A plain loop for tests of recipes: one process, float64 or float32, no scaling, no checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn


class PlainUpdate:
    """An update in one process."""

    def __init__(self) -> None:
        self.ended = False

    def backward(self, loss: Tensor, last: bool = True) -> None:
        assert not self.ended, "nothing may follow the last gradient of an update"
        loss.backward()
        self.ended = last


class PlainRun:
    """What a step needs, and nothing more.

    Attributes
    ----------
    order : list of str
        The roles in the order of their updates.
    """

    def __init__(self, recipe, networks: Mapping[str, nn.Module], optimizers: Mapping, dtype=torch.float64) -> None:
        self.recipe, self.networks, self.optimizers = recipe, networks, optimizers
        self.dtype = dtype
        self.number = 0
        self.batches: Sequence[Mapping[str, Tensor]] = ()
        self.order: list[str] = []
        self.autocast = nullcontext

    def mean_over_processes(self, value: Tensor) -> Tensor:
        return value

    @contextmanager
    def update(self, *roles: str) -> Iterator[PlainUpdate]:
        for name, network in self.networks.items():
            network.requires_grad_(name in roles)
        for role in roles:
            self.optimizers[role].zero_grad(set_to_none=True)
        update = PlainUpdate()
        yield update
        assert update.ended, "an update ends with a last gradient"
        for role in roles:
            self.optimizers[role].step()
        self.order += roles

    def step(self, batch: Mapping[str, Tensor], micro_batches: int = 1) -> dict[str, float]:
        """One iteration with a batch that is cut into equal micro-batches."""
        self.number += 1
        pieces = {name: images.to(self.dtype).chunk(micro_batches) for name, images in batch.items()}
        self.batches = [{name: chunks[n] for name, chunks in pieces.items()} for n in range(micro_batches)]
        return {name: float(value) for name, value in self.recipe.step(self).items()}


def start(recipe, dtype=torch.float64) -> PlainRun:
    """Networks of a recipe in training mode, and their optimisers."""
    networks = {role: network.to(dtype).train() for role, network in recipe.build().items()}
    for network in recipe.frozen.values():
        network.to(dtype)
    return PlainRun(recipe, networks, recipe.optimizers(networks), dtype)

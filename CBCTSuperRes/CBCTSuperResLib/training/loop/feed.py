"""A process's share of the batches, on its device, in parts that fit into the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..recipes.recipe import Batch
from .failure import next_smaller

if TYPE_CHECKING:
    import numpy as np

    from ..data import Source

IMAGES = "images"


class Batches(Protocol):
    """Endless batches, as `data.Batches` makes them."""

    def start(self, from_step: int) -> None: ...

    def __next__(self) -> list[Batch]: ...

    def close(self) -> None: ...


class Labelled:
    """A source whose batches also hold the numbers of their images, so that a failure can be traced to them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names = source.names

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, images: Sequence[int], draws: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        return {**self._source.batch(images, draws), IMAGES: torch.as_tensor(images)}


class Feed:
    """Batches one after the other, from any step on.

    Parameters
    ----------
    make : callable
        Makes the batches, given the size of a micro-batch.
    share : int
        Images of a step in this process.
    micro_batch : int
        Images at a time; divides `share`.
    device : torch.device

    Attributes
    ----------
    images : list of int
        Numbers of the images in the batch that came last, as `Labelled` tells them.
    """

    def __init__(self, make: Callable[[int], Batches], share: int, micro_batch: int, device: torch.device) -> None:
        self._make, self.share, self.device = make, share, device
        self.micro_batch = micro_batch
        self.images: list[int] = []
        self._batches: Batches | None = None

    def start(self, step: int) -> None:
        """Begin with the batch of this step."""
        self.close()
        self._batches = self._make(self.micro_batch)
        self._batches.start(step)

    def next(self) -> list[Batch]:
        batches = next(self._batches)
        self.images = [int(number) for batch in batches for number in batch[IMAGES]]
        return [{name: self._moved(tensor) for name, tensor in batch.items() if name != IMAGES} for batch in batches]

    def shrink(self, step: int) -> None:
        """Go on from this step with at most half as many images at a time."""
        self.micro_batch = next_smaller(self.share, self.micro_batch)
        self.start(step)

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _moved(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.device, non_blocking=True)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Lay the weights of 2-D convolutions out as the fast kernels want them; values stay the same."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network

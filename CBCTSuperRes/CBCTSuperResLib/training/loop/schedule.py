"""The learning rate of every iteration: a pure function of its number, so there is nothing to store and to restore."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch.optim import Optimizer

if TYPE_CHECKING:
    from ..options import TrainOptions

Factor = Callable[[int], float]


def make_factor(train: TrainOptions) -> Factor:
    """The factor on the initial learning rates, by iteration (from 1).

    "MultiStepLR": gamma to the number of milestones that have passed; as in SPSR, the iteration that follows a
    milestone is the first with the smaller rate. "Cosine": along half a cosine, to 0 after the last iteration. During
    `lr_warmup_iters` both also rise linearly from zero.

    Parameters
    ----------
    train : TrainOptions
    """
    steps, warmup = sorted(train.lr_steps), train.lr_warmup_iters

    def multi_step(number: int) -> float:
        return train.lr_gamma ** bisect_right(steps, number - 1)

    def cosine(number: int) -> float:
        done = min(1.0, max(0.0, (number - 1 - warmup) / max(1, train.niter - warmup)))
        return 0.5 * (1 + math.cos(math.pi * done))

    shape = cosine if train.lr_scheme == "Cosine" else multi_step
    return lambda number: shape(number) * min(1.0, number / warmup if warmup else 1.0)


class Schedule:
    """Sets the learning rates of all optimisers, each parameter group from its own initial rate."""

    def __init__(self, optimizers: Mapping[str, Optimizer], factor: Factor) -> None:
        self._factor = factor
        self._groups = [(group, group["lr"]) for optimizer in optimizers.values() for group in optimizer.param_groups]
        self._optimizers = optimizers

    def set(self, number: int) -> None:
        """Set the rates of iteration `number`."""
        factor = self._factor(number)
        for group, initial in self._groups:
            group["lr"] = initial * factor

    def rate(self, role: str) -> float:
        """The present rate of a role's first group, for the log."""
        return self._optimizers[role].param_groups[0]["lr"]

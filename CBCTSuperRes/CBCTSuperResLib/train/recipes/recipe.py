"""What a recipe and the loop promise each other.

A recipe knows networks, losses and the order of a step. The loop knows devices, precision, processes, micro-batches,
checkpoints and time. The loop calls `Recipe.step` once per iteration and hands it a `StepRun`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

Batch = Mapping[str, Tensor]


class Update(Protocol):
    """One optimiser step of one role, inside `with run.update(role) as update`.

    Entering clears the gradients and leaves only the role's own trainable parameters requiring gradients; leaving
    averages the gradients over the processes, refuses non-finite ones, and steps the optimiser.
    """

    network: nn.Module  # use it instead of `run.networks[role]` for forwards that are to be trained

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of a loss. `loss` is this micro-batch's share: the sum over the micro-batches of all
        processes, divided by the number of processes, is the loss of the global batch. `last` ends the update."""


class StepRun(Protocol):
    """One iteration, as the loop hands it to a recipe.

    Attributes
    ----------
    number : int
        Of the iteration, from 1.
    batches : sequence of Batch
        The micro-batches of this process, on its device, of equal size; usually one.
    networks : mapping of str to Module
        By role, without wrappers.
    """

    number: int
    batches: Sequence[Batch]
    networks: Mapping[str, nn.Module]

    def update(self, role: str) -> AbstractContextManager[Update]: ...

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run for forwards; losses are to be computed outside it, in float32 or float64."""

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """Mean of a small tensor over all processes, element by element; differentiable."""


@dataclass(frozen=True)
class Use:
    """What a step makes of a network, to plan its cost.

    Attributes
    ----------
    network : str
        "module:class", which `options` build.
    options : dataclass
    shape : tuple of int
        Of an image that goes in, channels first.
    passes : int
        For each image of the batch; a forward pass counts once, a backward pass twice.
    trained : bool
    """

    network: str
    options: Any
    shape: tuple[int, ...]
    passes: int
    trained: bool = True


class Recipe(Protocol):
    """Networks by role, their optimisers and a step.

    Attributes
    ----------
    exported : str
        Role of the network that is validated, averaged (EMA) and exported, "G".
    frozen : mapping of str to Module
        Networks that are used and never trained (feature network): moved to the device, not in checkpoints.
    may_be_in_parts : bool
        Whether a batch that is computed in parts gives the same training.
    """

    exported: str
    frozen: Mapping[str, nn.Module]
    may_be_in_parts: bool

    def check(self, processes: int, device: str, micro_batches: int = 1) -> None:
        """Raise OptionError if the training would be another one in so many processes on this kind of device ("cpu",
        "cuda"), or with so many micro-batches in each."""

    def example_batch(self, images: int) -> Batch:
        """A batch of noise of so many images, on the CPU: what a step costs is timed with it."""

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """The networks of a step whose batch comes in so many parts, by role; of one after the warm-up, or in it."""

    def build(self) -> dict[str, nn.Module]:
        """New networks with their initial weights, drawn from torch's global generator."""

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """One optimiser for each role that is trained."""

    def step(self, run: StepRun) -> dict[str, Tensor]:
        """Do one iteration; returns the losses and measures to log, detached scalars of this process's share."""

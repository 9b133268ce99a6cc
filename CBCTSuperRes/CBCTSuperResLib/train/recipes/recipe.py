"""What a recipe and the loop promise each other.

A recipe knows networks, losses, data and the order of a step, and what makes one state of the networks better than
another. The loop knows devices, precision, processes, micro-batches, checkpoints, resuming, the log and time. Once per
iteration it calls `Recipe.step` with the iteration's `Steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ...core.errors import OptionError
from ...networks import build_network
from ..data.batches import Batch
from ..step import Steps
from . import RECIPES

if TYPE_CHECKING:
    from ..data.source import TrainingSource
    from ..options import TrainingOptions

BETA2 = 0.999  # Adam's second decay
DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


class Validation(Protocol):
    """What measures the networks of a recipe while they learn.

    Attributes
    ----------
    warnings : list of str
        Sentences for the log.
    """

    warnings: list[str]

    def run(self, networks: Mapping[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        """Measure; neither the networks, nor their modes, nor torch's random state change.

        Parameters
        ----------
        networks : mapping of str to Module
            By role; the exported one is the running mean of its weights where there is one.
        step : int
        folder : Path
            For tables, and pictures as `<name>/<name>_<step>.png`.

        Returns
        -------
        dict
            Numbers by name; empty if there was nothing to measure.
        """

    def close(self) -> None: ...


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
    targets : tuple of int
        How many places along each axis a network of any factor is asked for.
    """

    network: str
    options: Any
    shape: tuple[int, ...]
    passes: int
    trained: bool = True
    targets: tuple[int, ...] = ()


class Recipe:
    """Base of all recipes. What raises NotImplementedError here has to be written.

    Attributes
    ----------
    exported : str
        Role of the network that becomes the model: its weights are averaged (EMA), validated and exported.
    names : mapping of str to str
        What people call the networks, by role.
    frozen : mapping of str to Module
        Networks that are used and never trained (a feature network): moved to the device, not in checkpoints.
    may_be_in_parts : bool
        Whether a batch that is computed in parts gives the same training.
    """

    exported: str = "G"
    names: Mapping[str, str] = {"G": "generator", "D": "discriminator", "D_grad": "discriminator of edges"}
    frozen: Mapping[str, nn.Module] = {}
    may_be_in_parts: bool = True

    def check(self, processes: int, device: str, micro_batches: int = 1) -> None:
        """Refuse what would be another training.

        Parameters
        ----------
        processes : int
        device : str
            "cpu" or "cuda". On CUDA, batch norm is synchronous (`SyncBatchNorm`).
        micro_batches : int
            How many make up the batch of a process.

        Raises
        ------
        OptionError
        """

    def build(self) -> dict[str, nn.Module]:
        """New networks by role, any number, with initial weights that are drawn from torch's global generator."""
        raise NotImplementedError

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """One optimiser for each role that is trained."""
        raise NotImplementedError

    def open_source(self) -> TrainingSource:
        """What is trained on; its batches are those that `step` gets."""
        raise NotImplementedError

    def example_batch(self, images: int) -> Batch:
        """A batch of noise of so many images, on the CPU: what a step costs is timed with it."""
        raise NotImplementedError

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """The networks of a step whose batch comes in so many parts, by role; of one after the warm-up, or in it."""
        raise NotImplementedError

    def step(self, run: Steps) -> dict[str, Tensor]:
        """Do one iteration; returns the losses and measures to log, detached scalars of this process's share."""
        raise NotImplementedError

    def open_validation(self) -> Validation | None:
        """What measures the networks; None if nothing does: then no model is the best."""
        return None

    def is_better(self, results: Mapping[str, float], best: Mapping[str, float]) -> bool:
        """Whether what was measured now is better than the best so far, which is empty before the first."""
        return "psnr" in results and results["psnr"] > best.get("psnr", -inf)

    def card_facts(self) -> dict[str, Any]:
        """For the model's card, where the keys of "train" do not say it: "losses" (weights by name) and
        "is_adversarial", whether fine detail may be invented."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What must be saved beyond networks and optimisers, a pool of images for instance.

        Tensors, numbers and texts in dicts and lists: loading a checkpoint executes nothing. Each process has its own.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` returned."""


def build_generator(options: TrainingOptions) -> nn.Module:
    """The network of "network_G" with its initial weights.

    Raises
    ------
    OptionError
        If its options do not fit together.
    """
    block = options.network_G
    try:
        return build_network(block.network, **asdict(block.options))
    except ValueError as error:
        raise OptionError(f"network_G: {error}") from None


def patch_shapes(options: TrainingOptions) -> dict[str, tuple[int, int, int]]:
    """Shapes (channels, rows, columns) of patches of slices, "LR" and "HR"."""
    edge, network = options.datasets["train"].HR_size, options.network_G
    small, channels = edge // options.scale, network.channels * (2 * network.slices + 1)
    return {"LR": (channels, small, small), "HR": (network.out_channels, edge, edge)}


def example_patches(options: TrainingOptions, images: int) -> Batch:
    """Noise in place of patches of slices, and of what the generator is told of each."""
    sizes = {"blur": (2,), "noise": (1,)}
    told = {name: sizes[name] for name in options.network_G.conditions}
    return {name: torch.rand(images, *shape) for name, shape in (patch_shapes(options) | told).items()}


def refuse_parts(what: str, instead: str, processes: int, device: str, micro_batches: int) -> None:
    """Refuse several processes on the CPU, and a batch in parts, for networks with batch norm; see `Recipe.check`.

    Parameters
    ----------
    what : str
        Whose batch norm it is, to begin a sentence with.
    instead : str
        What would do.

    Raises
    ------
    OptionError
    """
    if processes > 1 and device == "cpu":
        why, otherwise = "several processes on the CPU", "one process"
    elif micro_batches > 1:
        why, otherwise = "a batch that is computed in parts", "a batch that fits into memory"
    else:
        return
    raise OptionError(
        f"{what} has batch norm, which needs the whole batch at once and not {why}.", f"Use {instead}, or {otherwise}."
    )


def build_recipe(options: TrainingOptions, weights: bool = True) -> Recipe:
    """The recipe that "model" in the options names.

    Parameters
    ----------
    weights : bool
        Whether networks that are used and never trained get their weights, from files that must be there. Without, a
        step's cost can be counted.

    Raises
    ------
    OptionError
        If there is none, or the options do not fit together.
    """
    if options.model not in RECIPES:
        raise OptionError(f"model is {options.model!r}, which cannot be trained.", f"Choose {', '.join(RECIPES)}.")
    module, _, cls = RECIPES[options.model].path.partition(":")
    return getattr(import_module(module), cls)(options, weights)

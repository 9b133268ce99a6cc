"""Everything that a run consists of at one moment, as a checkpoint keeps it."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ..core.errors import InputError
from .ranks import Processes
from .recipes.recipe import Recipe

VERSION = 1


class Average:
    """The running mean of a network's weights (EMA), which is what validation and export use.

    Its decay is min(decay, (1 + n) / (10 + n)), n the number of updates so far, so that the first weights are soon
    forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, updates: int) -> None:
        """Move towards the network after its update number `updates`."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for kept, current in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(current)


@dataclass
class TrainingState:
    """Networks, their optimisers, and how far the run is.

    The learning rates are a function of the step, and the data's order and draws of the sample's number; so the step
    is the state of the schedule and of the sampler too.

    Attributes
    ----------
    recipe : Recipe
        It may have a state of its own.
    networks, optimizers, scalers : mapping by role
    average : Average or None
        The running mean of the exported network's weights.
    options : dict
        JSON of the options.
    batch_size : int
        Images of one step, over all processes.
    micro_batch : int
        Images that a process computes at a time; kept, as sums of other parts round differently.
    step : int
        The last iteration that is done.
    best, latest : dict
        What validation measured, with "step"; empty before the first.
    """

    recipe: Recipe
    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    scalers: Mapping[str, torch.amp.GradScaler]
    average: Average | None
    options: dict
    batch_size: int
    micro_batch: int
    step: int = 0
    best: dict = field(default_factory=dict)
    latest: dict = field(default_factory=dict)

    @property
    def exported(self) -> nn.Module:
        """What is validated and becomes the model: the running mean where there is one."""
        return self.average.network if self.average else self.networks[self.recipe.exported]

    def payload(self, processes: Processes) -> dict:
        """What is saved: tensors, numbers and texts only, so that loading executes nothing."""
        own = processes.gather({"random": random_state(), "recipe": self.recipe.state_dict()})
        return {
            "version": VERSION,
            "step": self.step,
            "samples": self.step * self.batch_size,
            "options": self.options,
            "micro_batch": self.micro_batch,
            "best": self.best,
            "latest": self.latest,
            "networks": {role: network.state_dict() for role, network in self.networks.items()},
            "average": self.average and self.average.network.state_dict(),
            "optimizers": {role: optimizer.state_dict() for role, optimizer in self.optimizers.items()},
            "scalers": {role: scaler.state_dict() for role, scaler in self.scalers.items()},
            "random": [state["random"] for state in own],
            "recipe": [state["recipe"] for state in own],
        }

    def restore(self, payload: Mapping, rank: int = 0) -> None:
        """Become what was saved. Settings of the optimisers (rates, decays) stay those of the present options.

        Random numbers are `restore_random`'s.

        Raises
        ------
        InputError
            If the checkpoint is of other networks.
        """
        try:
            for role, network in self.networks.items():
                network.load_state_dict(payload["networks"][role])
            for role, optimizer in self.optimizers.items():
                settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
                optimizer.load_state_dict(payload["optimizers"][role])
                for group, own in zip(optimizer.param_groups, settings, strict=True):
                    group.update(own)
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The checkpoint does not fit the networks of these options: {error}",
                "Resume with the options it was made with.",
            ) from error
        for role, scaler in self.scalers.items():
            if role in payload["scalers"]:
                scaler.load_state_dict(payload["scalers"][role])
        if self.average:
            self.average.network.load_state_dict(payload["average"] or payload["networks"][self.recipe.exported])
        if rank < len(payload.get("recipe", ())):  # version 0.1.0 had none
            self.recipe.load_state_dict(payload["recipe"][rank])
        self.step, self.best, self.latest = payload["step"], dict(payload["best"]), dict(payload["latest"])


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict:
    """The states of Python's, numpy's and torch's generators, as tensors and numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(payload: Mapping, rank: int) -> None:
    """Put a process's generators where they were; one that was not there then keeps its own."""
    if rank >= len(payload["random"]):
        return
    state = payload["random"][rank]
    random.setstate(tuple(tuple(part) if isinstance(part, list) else part for part in state["python"]))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])

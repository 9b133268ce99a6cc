"""Everything that a run consists of at one moment, as a checkpoint keeps it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ...errors import InputError
from .average import Average
from .processes import Processes

VERSION = 1


@dataclass
class TrainingState:
    """Networks, their optimisers, and how far the run is.

    The learning rates are a function of the step, and the data's order and draws of the sample's number; so the step
    is the state of the schedule and of the sampler too.

    Attributes
    ----------
    networks, optimizers, scalers : mapping by role
    exported : str
        Role of the network that is exported.
    average : Average or None
        The running mean of its weights.
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

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    scalers: Mapping[str, torch.amp.GradScaler]
    exported: str
    average: Average | None
    options: dict
    batch_size: int
    micro_batch: int
    step: int = 0
    best: dict = field(default_factory=dict)
    latest: dict = field(default_factory=dict)

    def payload(self, processes: Processes) -> dict:
        """What is saved: tensors, numbers and texts only, so that loading executes nothing."""
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
            "random": processes.gather(random_state()),
        }

    def restore(self, payload: Mapping) -> None:
        """Become what was saved. Settings of the optimisers (rates, decays) stay those of the present options.

        Raises
        ------
        InputError
            If the checkpoint is of other networks.
        """
        try:
            for role, network in self.networks.items():
                network.load_state_dict(payload["networks"][role])
            for role, optimizer in self.optimizers.items():
                _load_moments(optimizer, payload["optimizers"][role])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The checkpoint does not fit the networks of these options: {error}",
                "Resume with the options it was made with.",
            ) from error
        for role, scaler in self.scalers.items():
            if role in payload["scalers"]:
                scaler.load_state_dict(payload["scalers"][role])
        if self.average:
            source = payload["average"] or payload["networks"][self.exported]
            self.average.network.load_state_dict(source)
        self.step, self.best, self.latest = payload["step"], dict(payload["best"]), dict(payload["latest"])


def restore_random(payload: Mapping, rank: int) -> None:
    """Put a process's generators where they were; one that was not there then keeps its own."""
    if rank < len(payload["random"]):
        set_random_state(payload["random"][rank])


def _load_moments(optimizer: Optimizer, saved: dict) -> None:
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


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


def set_random_state(state: Mapping) -> None:
    """Put all generators back into a state of `random_state`."""
    random.setstate(tuple(tuple(part) if isinstance(part, list) else part for part in state["python"]))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)

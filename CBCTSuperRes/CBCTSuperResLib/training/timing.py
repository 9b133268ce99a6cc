"""How long an iteration takes here: a few with one random patch."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from .loop.precision import Precision
from .loop.processes import Processes
from .loop.step import Steps
from .options import TrainingDevice, TrainingOptions
from .recipes import build_recipe

LONG_S = 5.0
REPEATS = 3


def seconds_of_a_patch(options: TrainingOptions, where: TrainingDevice) -> tuple[float, TrainingOptions]:
    """Time of an iteration with a batch of one patch, after the warm-up, without a feature loss.

    Returns
    -------
    seconds : float
    options : TrainingOptions
        What was timed.
    """
    train = replace(options.train, feature_weight=0.0, warmup_iters=0, D_init_iters=0, D_update_ratio=1)
    if not any((train.pixel_weight, train.pixel_branch_weight, train.gradient_pixel_weight, train.gan_weight)):
        train = replace(train, pixel_weight=1.0)
    timed = replace(options, train=train)
    device = torch.device(str(TrainingDevice(where.type, where.ids[:1])))
    with torch.random.fork_rng(devices=where.ids[:1]):
        return _time(timed, device), timed


def _time(options: TrainingOptions, device: torch.device) -> float:
    recipe = build_recipe(options)
    networks = {role: network.to(device) for role, network in recipe.build().items()}
    precision = Precision(options.train.precision, device)
    steps = Steps(recipe, networks, recipe.optimizers(networks), precision, Processes())
    size, network = options.datasets["train"].HR_size, options.network_G
    high = torch.rand(1, network.out_nc, size, size, device=device)
    low = torch.rand(1, network.in_nc, size // options.scale, size // options.scale, device=device)
    seconds = []
    for number in range(1, 2 + REPEATS):
        began = time.perf_counter()
        steps.make(number, [{"LR": low, "HR": high}])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        if seconds[-1] > LONG_S:
            break
    return min(seconds)

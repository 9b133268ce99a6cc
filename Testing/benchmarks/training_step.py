"""One full training step (batch 8, HR 64, nf 32) against a plain eager implementation of the same step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch
from CBCTSuperResLib.core.devices import bfloat16_pays
from CBCTSuperResLib.train.loop import channels_last
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.ranks import Processes
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from CBCTSuperResLib.train.step import Precision, Steps
from torch import Tensor

from .cases import phantom_slice
from .measure import compare, interleaved, threads
from .plain_step import PlainTraining

BATCH, PATCH, NF = 8, 64, 32
TARGET = "not slower on the CPU, faster on CUDA, equal losses"
TOLERANCE = 2e-5  # of float32 losses, which are of order 1, over the first steps
ROUGH = 2e-2  # of bfloat16
FIRST_STEPS = 3
OURS, ROUNDED = "ours", "ours, bfloat16"


def run(quick: bool) -> bool:
    device, rounds = ("cuda", 20) if torch.cuda.is_available() else ("cpu", 5)
    print(f"batch {BATCH}, HR {PATCH} x {PATCH}, nf {NF}; target: {TARGET}")
    right = True
    for blocks in (4,) if quick else (4, 23):
        right &= _compare(blocks, device, 3 if quick else rounds)
    return right


def _compare(blocks: int, device: str, rounds: int) -> bool:
    low, high = (images.to(device) for images in _batch())
    plain, trainings = _trainings(blocks, device)
    expected = [plain.step(low, high) for _ in range(FIRST_STEPS)]
    right = True
    for name, (steps, tolerance) in trainings.items():
        found = [_step(steps, low, high) for _ in range(FIRST_STEPS)]
        error = _difference(found, expected)
        right &= error <= tolerance
        verdict = "" if error <= tolerance else ": WRONG"
        print(f"{blocks} blocks, {name}: losses of {FIRST_STEPS} steps differ by {error:.1e}{verdict}", flush=True)
    arms = {"plain": lambda: plain.step(low, high)}
    arms |= {name: lambda steps=steps: _step(steps, low, high) for name, (steps, _) in trainings.items()}
    for kind, count, clock in _ways(device):
        with threads(count):
            seconds = interleaved(arms, rounds, clock)
        for name in trainings:
            print(f"  {kind}: {compare(seconds, 'plain', name)}, {_spread(seconds, name)}", flush=True)
        if ROUNDED in trainings:
            print(f"  {kind}: {compare(seconds, OURS, ROUNDED)} (goal 1.6x on a CPU)", flush=True)
    return right


def _ways(device: str) -> list[tuple[str, int, Callable[[], float]]]:
    """How to measure: a name, a number of threads and a clock."""
    count = os.cpu_count() or 1
    if device == "cuda":
        return [(f"{torch.cuda.get_device_name()}, wall", count, _synchronised)]
    return [("1 thread, CPU time", 1, time.process_time), (f"{count} threads, wall", count, time.perf_counter)]


def _trainings(blocks: int, device: str) -> tuple[PlainTraining, dict[str, tuple[Steps, float]]]:
    """The plain training, and ours in each precision, all with the same initial weights."""
    options = read_options(
        {
            "datasets": {"train": {"mode": "HR", "dataroot_HR": "none", "HR_size": PATCH, "batch_size": BATCH}},
            "network_G": {"nf": NF, "nb": blocks},
            "network_D": {"nf": NF},
            "train": {"feature_weight": 0},
        }
    )
    precisions = {OURS: ("float32", TOLERANCE)}
    if device == "cuda" or bfloat16_pays():
        precisions |= {ROUNDED: ("bfloat16", ROUGH)}
    states, trainings = {}, {}
    for name, (precision, tolerance) in precisions.items():
        torch.manual_seed(0)
        recipe = build_recipe(options)
        networks = {role: channels_last(network.to(device)).train() for role, network in recipe.build().items()}
        states = {role: {k: v.cpu().clone() for k, v in n.state_dict().items()} for role, n in networks.items()}
        place = torch.device(device)
        steps = Steps(recipe.step, networks, recipe.optimizers(networks), Precision(precision, place), Processes())
        trainings[name] = steps, tolerance
    return PlainTraining(states, {"nf": NF, "nb": blocks}, NF, device), trainings


def _batch() -> tuple[Tensor, Tensor]:
    picture = phantom_slice(PATCH * 4)
    corners = [(row, column) for row in range(4) for column in range(4)][4 : 4 + BATCH]
    high = np.stack([picture[PATCH * r : PATCH * (r + 1), PATCH * c : PATCH * (c + 1)] for r, c in corners])[:, None]
    high = torch.from_numpy(high)
    return torch.nn.functional.avg_pool2d(high, 2), high


def _step(steps: Steps, low: Tensor, high: Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in steps.make(1, [{"LR": low, "HR": high}]).items()}


def _difference(found: list[dict], expected: list[dict]) -> float:
    """Largest difference between losses of the same name."""
    pairs = [(ours[name], value) for ours, plain in zip(found, expected, strict=True) for name, value in plain.items()]
    return max(abs(ours - plain) for ours, plain in pairs)


def _synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _spread(seconds: dict[str, list[float]], name: str) -> str:
    ratios = sorted(plain / ours for plain, ours in zip(seconds["plain"], seconds[name], strict=True))
    return f"from x{ratios[0]:.2f} to x{ratios[-1]:.2f}"

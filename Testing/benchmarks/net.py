"""B1: our engine against a plain forward pass of the same weights, float32, on the CPU."""

from __future__ import annotations

import os
import time

import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.core.errors import ModelError
from CBCTSuperResLib.models.model import Model

from .cases import FULL_SIZE, SMALL, as_tensor, enlarge, network_with_random_weights, phantom_slice
from .measure import agrees, compare, interleaved, threads

TARGET = 1.25
TOLERANCE = 1e-4


def run(quick: bool) -> bool:
    print(f"target for the full-size network: x{TARGET}")
    rounds = 3 if quick else 5
    right = _compare("full-size", network_with_random_weights(**FULL_SIZE), 64 if quick else 128, rounds)
    right &= _compare("small UNetSPSR", network_with_random_weights(**SMALL), 256, rounds)
    try:
        return right & _compare("light, as shipped", Model.load("light").network, 256, rounds)
    except ModelError:
        print("the light model is not here: not measured")
        return right


def _compare(title: str, network: torch.nn.Module, size: int, rounds: int) -> bool:
    picture = phantom_slice(size, network.describe().slices)
    engine, x = Engine(network, network.describe(), "cpu", "fp32", tile=0), as_tensor(picture)

    def plain():
        with torch.no_grad():
            return network(x)["sr"][0, 0].numpy()

    def ours():
        return enlarge(engine, picture)

    right, verdict = agrees(ours(), plain(), TOLERANCE)
    print(f"{title}, {size} x {size}: {verdict}")
    arms = {"plain": plain, "ours": ours}
    with threads(1):
        seconds = interleaved(arms, rounds, time.process_time)
    speed = size**2 / min(seconds["ours"])
    print(f"  1 thread, CPU time: {compare(seconds, 'plain', 'ours')}; {speed:.0f} pixels/s", flush=True)
    with threads(os.cpu_count()):
        seconds = interleaved(arms, rounds)
    speed = size**2 / min(seconds["ours"])
    print(f"  {os.cpu_count()} threads, wall: {compare(seconds, 'plain', 'ours')}; {speed:.0f} pixels/s", flush=True)
    return right

"""B1: our engine against a plain forward pass of the same full-size weights, float32, on the CPU."""

from __future__ import annotations

import os
import time

import torch
from CBCTSuperResLib.engine import Engine

from .cases import FULL_SIZE, LIGHT, as_tensor, enlarge, network_with_random_weights, phantom_slice
from .measure import agrees, compare, interleaved, threads

TARGET = 1.25
TOLERANCE = 1e-4


def run(quick: bool) -> bool:
    print(f"target for the full-size network: x{TARGET}")
    full = _compare("full-size", FULL_SIZE, 64 if quick else 128, rounds=3 if quick else 5)
    light = _compare("light", LIGHT, 256, rounds=3 if quick else 5)
    return full and light


def _compare(title: str, options: dict, size: int, rounds: int) -> bool:
    network, picture = network_with_random_weights(**options), phantom_slice(size)
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

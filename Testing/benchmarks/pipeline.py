"""B4: everything but the network, from volume to volume: 400 x 400 x 300 voxels of uint16, a quarter of them blank."""

from __future__ import annotations

import time

import numpy as np
import torch
from CBCTSuperResLib.acquisition.phantom import WINDOW, cylinder, to_grey
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks.spec import NetworkSpec

from .cases import phantom_slice
from .measure import added_peak, in_fresh_process, mib

FIELD_OF_VIEW = 0.977  # of the width: a disc that leaves a quarter of the square blank
TARGET = "<= 2.5 s of CPU time, <= one output volume of extra memory besides the output"


class Nearest(torch.nn.Module):
    """A network that does nothing but repeat pixels, and measures its own time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.clock = [0.0]

    def __deepcopy__(self, memo) -> Nearest:
        return self

    def describe(self) -> NetworkSpec:
        return NetworkSpec(network="nearest", scale=2, context=0, encode_flops=1.0, encode_bytes=4.0)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def decode(self, features: torch.Tensor, positions=None) -> dict[str, torch.Tensor]:
        start = time.thread_time()
        enlarged = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
        self.clock[0] += time.thread_time() - start
        return {"sr": enlarged}


def run(quick: bool) -> bool:
    slices = 60 if quick else 300
    right = True
    for smooth in (0.0, 0.5):
        rounds = sorted(in_fresh_process(_measure, slices, smooth) for _ in range(1 if quick else 3))
        cpu, stub, wall, peak, output, wrong = rounds[len(rounds) // 2]
        print(
            f"{slices} slices, Gaussian {smooth}: {cpu:.2f} s of CPU time (the stand-in for the network took another "
            f"{stub:.2f} s), {wall:.2f} s wall; extra memory {mib(peak)}, the output is {mib(output)}"
            + ("" if wrong == 0 else f"; grey values differ by {wrong}: WRONG")
        )
        right &= wrong == 0
    print(f"medians; target for 300 slices: {TARGET}")
    return right


def _measure(slices: int, smooth: float) -> tuple:
    torch.set_num_threads(1)
    volume, network = _scan(slices), Nearest()
    model = Model(network, ModelCard("nearest", network.describe(), window=WINDOW))
    options, results = Options(window=WINDOW, smooth=smooth, device="cpu"), []
    super_resolve(_scan(4), model, options)
    network.clock[0] = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    peak = added_peak(lambda: results.append(super_resolve(volume, model, options)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    output = results[0].voxels
    return cpu - network.clock[0], network.clock[0], wall, peak, output.nbytes, _error(volume, output, smooth)


def _scan(slices: int) -> Volume:
    """A phantom slice with noise of its own in every slice; outside the field of view all is zero."""
    base = to_grey(0.1 + 0.8 * phantom_slice(400))
    noise = np.random.default_rng(0).integers(0, 400, (slices, 400, 400), np.uint16)
    voxels = base + noise
    voxels[:, ~cylinder(voxels.shape, FIELD_OF_VIEW)] = 0
    return Volume(voxels, Grid((400, 400, slices), (0.125, 0.125, 0.125)))


def _error(volume: Volume, output: np.ndarray, smooth: float) -> int:
    """Largest difference, in grey values, from repeated pixels: in the field of view, and in the blank corner."""
    corner = int(output[:, :40, :40].max())
    if smooth:
        return corner
    found = output[:, 240:560, 240:560].astype(np.int32)
    return max(corner, int(np.abs(found - volume.voxels[:, 120:280, 120:280].repeat(2, 1).repeat(2, 2)).max()))

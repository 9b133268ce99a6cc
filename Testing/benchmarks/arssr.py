"""B10: ArSSR's encoder once for a block, against the original's way, which runs it again for each output slice.

The same weights in both. Operations are counted for x2 of 64 x 64 x 64 voxels; seconds are those of a smaller volume.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.memory import readable
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.networks import build_network

from .measure import compare, interleaved, threads

ENCODERS = ("RDN", "ResCNN", "SRResNet")
ORIGINAL = {"coordinates": "absolute", "padding": "zeros", "output": "relu", "residual": False}
LEAST, CAP, AGREE = 20.0, 4e9, 1e-5
THEIRS = "the original's way"


def run(quick: bool) -> bool:
    print(f"target: {LEAST:g} times less work than the original's way; 400^3 within {readable(CAP)}")
    right = True
    for encoder in ENCODERS:
        ratio, beyond = work_ratio(encoder, 64), memory_beyond(encoder, 400)
        right &= ratio >= LEAST and beyond <= CAP
        print(f"  {encoder}: x2 of 64^3 takes 1/{ratio:.0f} of the operations; 400^3 {readable(beyond)} beyond volumes")
    with threads(1):
        return right & _timed(8 if quick else 14)


def planned(encoder: str, edge: int):
    """The plan of x2 of a cube, with the context that the network knows of itself."""
    with torch.device("meta"):
        card = ModelCard("benchmark", build_network("arssr", encoder_name=encoder, **ORIGINAL).describe())
    return make_plan(Grid((edge,) * 3, (0.1,) * 3), np.dtype(np.int16), card, Options(scale=2.0, device="cpu"))


def work_ratio(encoder: str, edge: int) -> float:
    """Operations of the original's way for each of ours."""
    plan = planned(encoder, edge)
    spec, outputs = plan.card.spec, (2 * edge) ** 3
    decode = spec.decode_flops * outputs
    original = 2 * edge * edge**3 * spec.encode_flops + decode
    return original / (plan.network_voxels * spec.encode_flops + decode)


def memory_beyond(encoder: str, edge: int) -> int:
    """Bytes at the peak beyond input and result."""
    plan = planned(encoder, edge)
    return plan.memory_bytes - edge**3 * plan.scan_dtype.itemsize - plan.output_bytes


def _timed(edge: int) -> bool:
    torch.manual_seed(0)
    network = build_network("arssr", encoder_name="ResCNN", **ORIGINAL).eval()
    network.decoder.stage_two[network.decoder.last].bias.data.fill_(0.25)
    volume, outputs = np.random.default_rng(0).random((edge,) * 3, np.float32), 2 * edge
    engine = Engine(network, network.describe(), "cpu", "fp32")
    axes = [Axis(edge, 0, edge, outputs)] * 3
    (whole,) = plan_tiles(axes, None, 0)
    places = [torch.from_numpy(axis.positions(slice(0, outputs))).float() for axis in axes]

    @torch.inference_mode()
    def original() -> np.ndarray:
        x = torch.from_numpy(volume)[None, None]
        slices = [network(x, positions=[places[0][n : n + 1], *places[1:]])["sr"] for n in range(outputs)]
        return torch.cat(slices, 2)[0, 0].numpy()

    arms = {THEIRS: original, "ours": lambda: engine.run(volume, axes, whole)}
    first, second = (work() for work in arms.values())
    difference = float(np.abs(first - second).max())
    seconds = interleaved(arms, 1, time.process_time)
    print(f"  {edge}^3, ResCNN, 1 thread, CPU time: {compare(seconds, THEIRS, 'ours')}; ", end="")
    print(f"difference {difference:.1e}{'' if difference <= AGREE else ': WRONG'}")
    return difference <= AGREE

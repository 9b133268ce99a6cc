"""B2: memory of the full-size network over a whole slice, beyond its weights."""

from __future__ import annotations

import time

import numpy as np
from CBCTSuperResLib.apply.engine import Engine

from .cases import FULL_SIZE, enlarge, network_with_random_weights, phantom_slice
from .measure import added_peak, in_fresh_process, mib

TARGET = "1.2 GB (1144 MiB) for 512 x 512"


def run(quick: bool) -> bool:
    size = 256 if quick else 512
    peak, seconds, finite = in_fresh_process(_measure, size)
    print(f"{size} x {size}, float32: {mib(peak)} over the weights, {seconds:.0f} s; target {TARGET}")
    return finite


def _measure(size: int) -> tuple[int | None, float, bool]:
    network = network_with_random_weights(**FULL_SIZE)
    engine = Engine(network, network.describe(), "cpu", "fp32")
    enlarge(engine, phantom_slice(32))
    picture, results = phantom_slice(size), []
    start = time.perf_counter()
    peak = added_peak(lambda: results.append(enlarge(engine, picture)))
    return peak, time.perf_counter() - start, bool(np.isfinite(results[0]).all())

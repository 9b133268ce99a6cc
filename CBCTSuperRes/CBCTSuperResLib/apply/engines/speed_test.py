"""Measuring how fast each engine computes a model here, and how well it agrees with PyTorch; takes some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import Cancelled, SuperResError
from ...core.options import ENGINES, Options
from ..calibration import calibration_picture
from ..engine import EQUAL_PSNR, Engine
from ..tiles import Axis, plan_tiles
from . import TITLES, installed_engines
from .choice import network_for
from .graphs import EQUAL
from .speed_records import PRECISIONS, Measured

if TYPE_CHECKING:
    from ...models.model import Model

REPEATS = 3


def measure_engines(
    model: Model,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Measured]:
    """Compute a drawn picture with every engine that is installed, on the CPU, in float32 and where it may be faster in
    bfloat16. They take turns, so that whatever else the machine does slows all of them.

    Raises
    ------
    Cancelled
    """
    progress, spec = progress or (lambda fraction, message: None), model.spec
    picture = calibration_picture(1, spec.dimensions, spec.slices)
    factors = spec.scale or [min(max(2.0, low), high) for low, high in spec.scale_range]
    sizes = picture.shape[-spec.dimensions :]
    axes = [Axis(n, 0, n, round(n * factor), blur=0.5) for n, factor in zip(sizes, factors, strict=True)]
    (whole,) = plan_tiles(axes, None, 0)
    versions = installed_engines()
    engines = [name for name in ENGINES if name in versions and (name != "torch" or model.network is not None)]
    found, ready, steps = [], [], len(engines) + REPEATS
    for number, engine in enumerate(engines):
        progress(number / steps, f"Starting {TITLES[engine]}")
        start, facts = time.perf_counter(), {"engine": engine, "version": versions[engine]}
        try:
            network, _ = network_for(model, Options(device="cpu", engine=engine), cancelled=cancelled)
            for precision in PRECISIONS:
                if precision == "fp32" or network.quicker_precision(1.0) == precision:
                    runner = Engine(network, spec, precision=precision, cancelled=cancelled, noise=0.02)
                    values = runner.run(picture, axes, whole)
                    facts["precision"], seconds = precision, time.perf_counter() - start
                    ready.append((runner, values, {**facts, "start_s": round(seconds, 3)}))
                start = time.perf_counter()
        except Cancelled:
            raise
        except SuperResError as error:
            found.append(Measured(**{"precision": "fp32", **facts}, problem=error.what))
    seconds = [float("inf")] * len(ready)
    for turn in range(REPEATS):
        progress((len(engines) + turn) / steps, "Measuring")
        for number, (runner, _, _) in enumerate(ready):
            start = time.perf_counter()
            runner.run(picture, axes, whole)
            seconds[number] = min(seconds[number], time.perf_counter() - start)
    for (_, values, facts), taken in zip(ready, seconds, strict=True):
        exact, precision = ready[0][1], facts["precision"]
        difference = float(np.abs(values - exact).max())
        psnr = float(-10 * np.log10(max(float(np.mean((values - exact) ** 2)), 1e-20)))
        is_equal = difference <= EQUAL if precision == "fp32" else psnr >= EQUAL_PSNR["bf16"]
        limit = f"{EQUAL:g} of the window" if precision == "fp32" else f"{EQUAL_PSNR['bf16']:g} dB"
        problem = "" if is_equal else f"It differs from float32 of {TITLES[engines[0]]} by more than {limit}."
        speed = float(np.prod(sizes)) / taken
        found.append(
            Measured(**facts, voxels_per_second=speed, difference=difference, psnr=round(psnr, 1), problem=problem)
        )
    progress(1.0, "Done")
    return found

"""B3: our tiles, whose halo is discarded, against MONAI's overlapping windows, which are blended.

The same engine computes every window of both, one window at a time. Seams are differences from the untiled slice.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.core.errors import ModelError
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model

from .cases import SMALL, as_tensor, enlarge, network_with_random_weights, phantom_slice
from .measure import compare, interleaved, threads

WINDOW, OVERLAP = 128, 0.25
HALO = 24  # of networks with random weights, as calibration finds it
TARGET = 1.35
SEAM = 1e-5
OURS = "ours"


def run(quick: bool) -> bool:
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        print("skipped: MONAI is not installed (pip install 'cbct-superres[benchmark]')")
        return True
    print(f"target: x{TARGET} against MONAI (roi {WINDOW}, overlap {OVERLAP}, gaussian), seam <= {SEAM:.0e}")
    with threads(1):
        return _compare_all(quick, sliding_window_inference)


def _compare_all(quick: bool, sliding_window) -> bool:
    size = 416 if quick else 512
    small = _with_known_halo(network_with_random_weights(**SMALL))
    right = _compare("small UNetSPSR", small, size, sliding_window)
    try:
        shipped = Model.load("light")
        right &= _compare("light, as shipped", shipped, size, sliding_window)
    except ModelError:
        print("the light model is not here: not measured")
    reduced = _with_known_halo(network_with_random_weights(nb=4))
    return right & _compare("full-size with 4 blocks", reduced, 224 if quick else 416, sliding_window)


def _with_known_halo(network: torch.nn.Module) -> Model:
    return Model(network, ModelCard("benchmark", replace(network.describe(), context=HALO)))


def _compare(title: str, model: Model, size: int, sliding_window) -> bool:
    picture = phantom_slice(size, model.spec.slices)
    spec, window = model.spec, replace(model.spec, context="unknown")
    untiled = Engine(model.network, window, "cpu", "fp32", tile=0)
    engines = {f"tiles of {edge}": Engine(model.network, spec, "cpu", "fp32", tile=edge) for edge in (128, 256)}
    engines = {OURS: Engine(model.network, spec, "cpu", "fp32"), **(engines if spec.can_be_cut else {})}

    def one_window(x: torch.Tensor) -> torch.Tensor:
        return as_tensor(enlarge(untiled, x[0].numpy() if spec.slices else x[0, 0].numpy()))

    def monai() -> np.ndarray:
        result = sliding_window(as_tensor(picture), (WINDOW,) * 2, 1, one_window, overlap=OVERLAP, mode="gaussian")
        return result[0, 0].numpy()

    whole = enlarge(untiled, picture)
    ours = {name: lambda engine=engine: enlarge(engine, picture) for name, engine in engines.items()}
    arms = {"MONAI": monai, **ours}
    seams = {name: _seam(work(), whole) for name, work in arms.items()}
    seconds = interleaved(arms, 3 if size == 512 else 1, time.process_time)
    print(f"{title}, {size} x {size}, context {spec.context}, 1 thread, CPU time:")
    print(f"  seam of MONAI {seams['MONAI']:.1e} of the range")
    for name in engines:
        verdict = "" if seams[name] <= SEAM else ": WRONG"
        print(f"  {compare(seconds, 'MONAI', name)}; seam {seams[name]:.1e}{verdict}", flush=True)
    return all(seams[name] <= SEAM for name in engines)


def _seam(found: np.ndarray, whole: np.ndarray) -> float:
    return float(np.abs(found - whole).max() / (whole.max() - whole.min()))

"""B10: a shipped model by PyTorch, ONNX Runtime and OpenVINO, in float32 and bfloat16."""

from __future__ import annotations

import time

import numpy as np
from CBCTSuperResLib.apply.engine import EQUAL_PSNR, Engine
from CBCTSuperResLib.apply.engines import installed_engines
from CBCTSuperResLib.apply.engines.choice import GRAPH_ENGINES, network_for
from CBCTSuperResLib.apply.engines.graphs import EQUAL
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.models.model import Model

from .cases import enlarge, phantom_slice
from .measure import agrees, compare, interleaved, threads

TARGET = "another engine x1.1 in float32, x2 in bfloat16, against PyTorch in float32"
MODELS = ("light", "adaptive")


def run(quick: bool) -> bool:
    engines = [name for name in ("torch", *GRAPH_ENGINES) if name in installed_engines()]
    size, rounds = (128, 3) if quick else (256, 7)
    print(f"{size} x {size}, {', '.join(f'{name} {installed_engines()[name]}' for name in engines)}; target: {TARGET}")
    return all([_compare(name, count, engines, size, rounds) for name in MODELS for count in (1, 2)])


def _compare(name: str, count: int, engines: list[str], size: int, rounds: int) -> bool:
    model, arms, exact, right = Model.load(name), {}, None, True
    picture = phantom_slice(size, model.spec.slices)
    print(f" {name}, {count} thread(s)")
    with threads(count):
        for engine in engines:
            start = time.perf_counter()
            network, _ = network_for(model, Options(device="cpu", engine=engine))
            for precision in ("fp32", "bf16"):
                if precision == "bf16" and network.quicker_precision(1.0) != "bf16":
                    continue
                runner = Engine(network, model.spec, precision=precision, noise=0.02)
                found = enlarge(runner, picture)
                exact = found if exact is None else exact
                arms[f"{engine} {precision}"] = lambda runner=runner: enlarge(runner, picture)
                psnr = -10 * np.log10(max(float(np.mean((found - exact) ** 2)), 1e-20))
                is_equal, verdict = agrees(found, exact, EQUAL, of=1.0) if precision == "fp32" else (
                    psnr >= EQUAL_PSNR["bf16"], f"{psnr:.0f} dB, wanted {EQUAL_PSNR['bf16']:.0f}"
                )  # fmt: skip
                right &= is_equal
                print(f"  {engine} {precision}: ready in {time.perf_counter() - start:.1f} s, {verdict}")
                start = time.perf_counter()
        seconds = interleaved(arms, rounds)
    for arm in arms:
        if arm != "torch fp32":
            print(f"  {compare(seconds, 'torch fp32', arm)}")
    return right

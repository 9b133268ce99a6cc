"""B5: the full-size network on a GPU against a plain forward pass in float32."""

from __future__ import annotations

import time
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from CBCTSuperResLib.acquisition.phantom import WINDOW, to_grey
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model

from .cases import FULL_SIZE, as_tensor, enlarge, network_with_random_weights, phantom_slice
from .measure import MIB, agrees

TARGET = "x3 against plain float32, PSNR >= 60 dB, <= 2.5 GB, <= 20 % of the time outside the network"
EXACT = 1e-4
LEAST_PSNR = 60.0
WINDOW_RANGE = 1.0


def run(quick: bool) -> bool:
    if not torch.cuda.is_available():
        print("skipped: there is no CUDA device")
        return True
    size, rounds, slices = (256, 5, 4) if quick else (512, 20, 12)
    print(f"{torch.cuda.get_device_name()}, {size} x {size}; target: {TARGET}")
    network, picture = network_with_random_weights(**FULL_SIZE), phantom_slice(size)
    return _compare(network, picture, rounds) & _volume(network, picture, slices)


def _compare(network: torch.nn.Module, picture: np.ndarray, rounds: int) -> bool:
    plain, x = network.cuda(), as_tensor(picture).cuda()
    engines = {p: Engine(network, network.describe(), "cuda", p) for p in ("fp32", "tf32", "bf16", "fp16")}

    def eager() -> np.ndarray:
        with torch.no_grad():
            return plain(x)["sr"][0, 0].cpu().numpy()

    arms = {"plain fp32": eager, **{p: lambda e=engine: enlarge(e, picture) for p, engine in engines.items()}}
    with _strict_float32():
        exact = eager()
    results, peaks = {}, {}
    for name, work in arms.items():
        work()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results[name] = work()
        peaks[name] = torch.cuda.max_memory_allocated() - before
    milliseconds = _interleaved(arms, rounds)
    baseline = median(milliseconds["plain fp32"])
    for name in arms:
        taken = median(milliseconds[name])
        psnr = _psnr(results[name], exact)
        print(
            f"  {name}: {taken:.1f} ms a slice, x{baseline / taken:.2f}, PSNR {psnr:.1f} dB, "
            f"peak {peaks[name] / MIB:.0f} MiB over the weights; {engines[name].notes if name in engines else ''}"
        )
    right, verdict = agrees(results["fp32"], exact, EXACT)
    print(f"  fp32: {verdict}")
    low = [p for p in ("tf32", "bf16", "fp16") if _psnr(results[p], exact) < LEAST_PSNR]
    if low:
        print(f"  below {LEAST_PSNR:.0f} dB: {', '.join(low)} (the engine measures it for each model)")
    return right


def _interleaved(arms: dict, rounds: int) -> dict[str, list[float]]:
    milliseconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, work in arms.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            stop.record()
            stop.synchronize()
            milliseconds[name].append(start.elapsed_time(stop))
    return milliseconds


def _volume(network: torch.nn.Module, picture: np.ndarray, slices: int) -> bool:
    """A small volume through the whole path; the share of the time in which the network does not run."""
    voxels = np.stack([to_grey(picture)] * slices)
    volume = Volume(voxels, Grid((*voxels.shape[:0:-1], slices), (0.125, 0.125, 0.125)))
    model = Model(network.cpu(), ModelCard("benchmark", network.describe(), window=WINDOW))
    inside, run = [], Engine.run

    def timed(self, *arguments):
        start = time.perf_counter()
        result = run(self, *arguments)
        inside.append(time.perf_counter() - start)
        return result

    options = Options(window=WINDOW, device="cuda", precision="auto", blank="none")
    super_resolve(volume, model, options)
    with patch.object(Engine, "run", timed):
        start = time.perf_counter()
        result = super_resolve(volume, model, options)
        total = time.perf_counter() - start
    first, rest = inside[0], sum(inside[1:])
    outside = total - sum(inside)
    print(
        f"  {slices} slices from volume to volume: {total:.2f} s, of which {first:.2f} s for the first slice (it takes "
        f"the weights to the GPU and chooses the precision) and {rest:.2f} s for the others; outside the network "
        f"{outside:.2f} s = {100 * outside / total:.0f} %"
    )
    return result.voxels.shape == (slices, *(2 * n for n in picture.shape)) and bool(result.voxels.any())


def _psnr(found: np.ndarray, expected: np.ndarray) -> float:
    error = float(np.mean((found.astype(np.float64) - expected) ** 2))
    return 10 * np.log10(WINDOW_RANGE**2 / max(error, 1e-20))


class _strict_float32:
    """No TensorFloat-32 inside."""

    def __enter__(self) -> None:
        self._before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def __exit__(self, *error) -> None:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = self._before

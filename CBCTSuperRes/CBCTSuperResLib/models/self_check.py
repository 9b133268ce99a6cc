"""What a network gives for an input that is the same everywhere: a fingerprint that any engine can be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from ..core.errors import ModelError
from ..networks.spec import NetworkSpec

EXTENT = 16
TOLERANCE = 1e-3
MEASURES = ("mean", "std", "first", "middle", "last")


def probe(spec: NetworkSpec) -> np.ndarray:
    """Fixed input in [0, 1], float32 (1, input channels, 16, 16[, 16]) or the next size that the network accepts.

    Waves of two lengths and a sharp corner, without random numbers.
    """
    extent = max(EXTENT, spec.minimum_size)
    extent += -extent % spec.multiple
    shape = (spec.input_channels, *[extent] * spec.dimensions)
    index = np.arange(prod(shape), dtype=np.float64)
    values = 0.5 + 0.3 * np.sin(index / 1.7) + 0.2 * np.sin(index / 29.0)
    values = values.reshape(shape)
    values[(slice(None), *[slice(extent // 2, None)] * spec.dimensions)] *= 0.5
    return values[None].astype(np.float32)


def probe_conditions(spec: NetworkSpec) -> dict[str, np.ndarray]:
    """What the network is told beside the probe, float32 (1, values)."""
    values = {"blur": [0.5] * spec.dimensions, "noise": [0.02]}
    return {name: np.asarray([values[name]], np.float32) for name in spec.conditions}


def statistics(outputs: Mapping[str, np.ndarray]) -> dict:
    """Shape, mean, deviation and three values of each output; JSON.

    Raises
    ------
    ModelError
        If an output is not finite: the weights are useless.
    """
    wrong = [name for name, values in outputs.items() if not np.isfinite(values).all()]
    if wrong:
        raise ModelError(f"The network's outputs {', '.join(wrong)} are not finite, although its weights are.")
    found = {}
    for name, values in outputs.items():
        flat = values.astype(np.float64).ravel()
        numbers = (flat.mean(), flat.std(), flat[0], flat[flat.size // 2], flat[-1])
        measured = zip(MEASURES, map(float, numbers), strict=True)
        found[name] = {"shape": [*values.shape], **dict(measured)}
    return found


def compare_outputs(found: dict, recorded: dict, tolerance: float = TOLERANCE) -> list[str]:
    """Differences beyond `tolerance` times the output's spread, one sentence each.

    Other machines, threads and versions of torch add in another order; that changes float32 results by about 1e-6.
    """
    problems = [f"no output {name}" for name in recorded if name not in found]
    for name, values in found.items():
        reference = recorded.get(name, {})
        if reference.get("shape") != values["shape"]:
            problems.append(f"{name} has the shape {values['shape']}, not {reference.get('shape')}")
            continue
        bound = tolerance * (abs(reference["mean"]) + reference["std"]) + 1e-6
        problems += [
            f"{name}: {measure} is {values[measure]:.6g}, not {reference[measure]:.6g}"
            for measure in MEASURES
            if not abs(values[measure] - reference[measure]) <= bound
        ]
    return problems

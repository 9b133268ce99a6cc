"""A network's fingerprint: statistics of its outputs for an input that is the same everywhere."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..networks.spec import NetworkSpec

EXTENT = 16
TOLERANCE = 1e-3
MEASURES = ("mean", "std", "first", "middle", "last")


def probe(spec: NetworkSpec) -> Tensor:
    """Fixed input in [0, 1], shape (1, input channels, 16, 16[, 16]) or the next size that the network accepts.

    Waves of two lengths and a sharp corner, without random numbers.
    """
    extent = max(EXTENT, spec.minimum_size)
    extent += -extent % spec.multiple
    shape = (spec.input_channels, *[extent] * spec.dimensions)
    index = np.arange(prod(shape), dtype=np.float64)
    values = 0.5 + 0.3 * np.sin(index / 1.7) + 0.2 * np.sin(index / 29.0)
    values = values.reshape(shape)
    values[(slice(None), *[slice(extent // 2, None)] * spec.dimensions)] *= 0.5
    return torch.from_numpy(values[None]).to(torch.float32)


@torch.no_grad()
def describe_outputs(network: nn.Module, spec: NetworkSpec) -> dict:
    """Statistics of all outputs for `probe`, in float32 on the CPU; JSON.

    Raises
    ------
    ModelError
        If an output is not finite: the weights are useless.
    """
    outputs = network(probe(spec))
    wrong = [name for name, tensor in outputs.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise ModelError(f"The network's outputs {', '.join(wrong)} are not finite, although its weights are.")
    return {name: _statistics(tensor.double()) for name, tensor in outputs.items()}


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


def _statistics(tensor: Tensor) -> dict:
    flat = tensor.flatten()
    return {
        "shape": [*tensor.shape],
        "mean": flat.mean().item(),
        "std": flat.std(correction=0).item(),
        "first": flat[0].item(),
        "middle": flat[flat.numel() // 2].item(),
        "last": flat[-1].item(),
    }

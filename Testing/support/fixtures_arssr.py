"""ArSSR's published layout: the tensors of its files, independently of the library, with weights of no generator."""

from __future__ import annotations

import zlib
from math import prod

import numpy as np
import torch
from fixtures_spsr import unit
from torch import Tensor

LEGACY = {"coordinates": "absolute", "padding": "zeros", "output": "relu", "residual": False, "factors": (2.0, 4.0)}


def published_shapes(
    encoder: str = "RDN", features: int = 128, depth: int = 8, width: int = 256
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a published file, in its order."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
        shapes[f"encoder.{name}.weight"] = (outputs, inputs, kernel, kernel, kernel)
        shapes[f"encoder.{name}.bias"] = (outputs,)

    if encoder == "RDN":
        conv("sfe1", 1, 64)
        conv("sfe2", 64, 64)
        for block in range(8):
            for layer in range(3):
                conv(f"rdbs.{block}.layers.{layer}.conv", 64 * (layer + 1), 64)
            conv(f"rdbs.{block}.lff", 256, 64, 1)
        conv("gff.0", 512, 64, 1)
        conv("gff.1", 64, 64)
        conv("output", 64, features)
    elif encoder == "ResCNN":
        conv("conv_start.0", 1, 64)
        for block in (1, 2, 3):
            for layer in range(0, 12, 2):
                conv(f"block{block}.{layer}", 64, 64)
        conv("conv_end.0", 64, features)
    else:
        conv("features.0.0", 1, 64)
        for block in range(1, 19):
            conv(f"features.{block}.m.0.0", 64, 64)
            conv(f"features.{block}.m.1.0", 64, 64)
        conv("features.19.0", 64, 64)
        conv("features.20.0", 64, features)
    told = features + 3
    for stage, last in (("one", told), ("two", 1)):
        sizes = [told, *[width] * (depth // 2 - 1), last]
        for n, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
            shapes[f"decoder.stage_{stage}.{2 * n}.weight"] = (outputs, inputs)
            shapes[f"decoder.stage_{stage}.{2 * n}.bias"] = (outputs,)
    return shapes


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """float32 weights that depend on a tensor's name and shape alone; the last bias is positive."""
    state = {}
    for name, shape in shapes.items():
        u = unit(shape, zlib.crc32(name.encode())) - 0.5
        values = u * 2 * np.sqrt(3 / prod(shape[1:])) if len(shape) > 1 else 0.1 * u
        state[name] = torch.from_numpy(values.astype(np.float32))
    ends = [name for name in shapes if name.startswith("decoder.stage_two") and name.endswith("bias")]
    if ends:
        state[ends[-1]][0] = 0.25
    return state


def published_state(encoder: str = "RDN", features: int = 128, depth: int = 8, width: int = 256) -> dict[str, Tensor]:
    """A published file's tensors, filled."""
    return filled(published_shapes(encoder, features, depth, width))

"""Numbers for conformance tests of the SPSR networks that need no random generator and no reference code.

`unit` and `fill` give the same values on every machine; `official_shapes` lists the tensors of a generator file as the
layout prescribes, independently of the library's importer.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import log2, prod

import numpy as np
import torch
from torch import Tensor

HORIZONTAL = [[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
VERTICAL = [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def unit(shape: Iterable[int], seed: int) -> np.ndarray:
    """Hashed indices in [0, 1), float64, C order."""
    shape = tuple(shape)
    x = (np.arange(prod(shape), dtype=np.uint64) + np.uint64(seed * 0x9E3779B9 % 2**32)) % np.uint64(2**32)
    x = x.astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x / 2.0**32).reshape(shape)


def filled(name: str, shape: tuple[int, ...], gain: float) -> Tensor:
    """float32 weights for a tensor: uniform, of variance gain^2 / fan_in; small ones for biases."""
    values = (unit(shape, zlib.crc32(name.encode())) - 0.5) * 2
    values *= gain * np.sqrt(3 / prod(shape[1:])) if len(shape) > 1 else 0.05
    return torch.from_numpy(values.astype(np.float32))


def official_shapes(
    nf: int = 64, nb: int = 23, gc: int = 32, in_nc: int = 1, out_nc: int = 1, scale: int = 2
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of an SPSR generator file, in the order of the file."""
    shapes: dict[str, tuple[int, ...]] = {}
    steps = int(log2(scale))

    def conv(name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"{name}.bias"] = (outputs,)

    def rrdb(name: str, features: int) -> None:
        for r in (1, 2, 3):
            for c in (1, 2, 3, 4):
                conv(f"{name}.RDB{r}.conv{c}.0", features + gc * (c - 1), gc)
            conv(f"{name}.RDB{r}.conv5.0", features + 4 * gc, features)

    conv("HR_conv0_new.0", nf, nf)
    conv("HR_conv1_new.0", nf, nf)
    conv("model.0", in_nc, nf)
    for i in range(nb):
        rrdb(f"model.1.sub.{i}", nf)
    conv(f"model.1.sub.{nb}", nf, nf)
    for u in range(steps):
        conv(f"model.{3 + 3 * u}", nf, nf)
    conv(f"model.{2 + 3 * steps}", nf, nf)
    shapes["get_g_nopadding.weight_h"] = shapes["get_g_nopadding.weight_v"] = (1, 1, 3, 3)
    conv("b_fea_conv.0", in_nc, nf)
    for k in (1, 2, 3, 4):
        conv(f"b_concat_{k}.0", 2 * nf, nf)
        rrdb(f"b_block_{k}", 2 * nf)
    conv("b_LR_conv.0", nf, nf)
    for u in range(steps):
        conv(f"b_module.{1 + 3 * u}", nf, nf)
    conv(f"b_module.{3 * steps}", nf, nf)
    conv(f"b_module.{3 * steps + 2}", nf, nf)
    conv("conv_w.0", nf, out_nc, kernel=1)
    conv("f_concat.0", 2 * nf, nf)
    rrdb("f_block", 2 * nf)
    conv("f_HR_conv0.0", nf, nf)
    conv("f_HR_conv1.0", nf, out_nc)
    return shapes


def official_state(gain: float = 0.7, **options: int) -> dict[str, Tensor]:
    """A generator file's tensors, filled; the copy of the first convolution after the enlargement is equal to it."""
    last = 2 + 3 * int(log2(options.get("scale", 2)))
    state = {}
    for name, shape in official_shapes(**options).items():
        state[name] = filled(name.replace("HR_conv0_new.0", f"model.{last}"), shape, gain)
    state["get_g_nopadding.weight_h"] = torch.tensor(HORIZONTAL)[None, None]
    state["get_g_nopadding.weight_v"] = torch.tensor(VERTICAL)[None, None]
    return state


def rrdb_state(nf: int = 64, nb: int = 23, channels: int = 3) -> dict[str, Tensor]:
    """Tensors of an ESRGAN generator for a factor of four in the old layout (RRDB_PSNR_x4.pth: 702 for nb 23)."""
    shapes = official_shapes(nf, nb, in_nc=channels, out_nc=channels, scale=4)
    state = {name: filled(name, shape, 0.7) for name, shape in shapes.items() if name.startswith("model.")}
    state["model.10.weight"] = filled("model.10.weight", (channels, nf, 3, 3), 0.7)
    state["model.10.bias"] = filled("model.10.bias", (channels,), 0.7)
    return state

"""The engines that compute networks: PyTorch, and where they are installed ONNX Runtime and OpenVINO.

One file an engine, or a family of them; `choice` takes one, `speed_records` knows how fast each is. A network on an
engine offers, whatever the engine is:

- ``engine``: its name, one of `core.options.ENGINES`; ``version``;
- ``device_type`` ("cpu" or "cuda") and ``device_text``, a line for the report; ``free_memory()`` there, in bytes;
- ``decodes_apart``: whether a tile's output may be asked for in parts; otherwise the one part is the tile;
- ``precisions`` that it can be asked for; ``quicker_precision(scan_noise)``: one that is worth comparing with float32,
  or None;
- ``run_tile(image, tile, parts, axes, names, precision, noise, draw, is_shared)``: for each part of a tile what it
  writes, and the outputs of these names there, float32 (names, *part). `noise` and the axes' blur are told to networks
  that want to know; `draw` is the seed of stochastic layers; `is_shared` says that the next tile may be the same;
- ``is_out_of_memory(error)``, and ``release()``, which gives memory back then; ``forget_tile()``, which gives back what
  was kept of the last tile for the next.
"""

from __future__ import annotations

import os
import sys

from ...core.packages import installed_version
from ...core.processes import usable_cores

PACKAGES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    "openvino": ("openvino",),
}
TITLES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def installed_engines() -> dict[str, str]:
    """Versions of the engines that are installed, by their names; nothing is imported."""
    versions = {engine: map(installed_version, packages) for engine, packages in PACKAGES.items()}
    return {engine: version for engine, found in versions.items() if (version := next(filter(None, found), None))}


def cpu_threads() -> int:
    """Threads that an engine may use: as many as PyTorch does where it is loaded, so that all obey one limit."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else usable_cores()


def set_cpu_threads(count: int) -> None:
    """Let whatever engine computes in this process use so many threads."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(count)

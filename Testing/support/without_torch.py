"""Runs the command in a Python in which PyTorch, safetensors and onnx cannot be imported, nor found.

Whatever else a user of the panel's first sections starts is imported, too.

python Testing/support/without_torch.py apply SCAN OUTPUT ...
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from pathlib import Path

BLOCKED = ("torch", "safetensors", "onnx", "openvino", "scipy")
ALSO = ("jobs.preview_server", "jobs.shared_volume", "evaluate.files", "apply.difference", "apply.dicom_result")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "CBCTSuperRes"))


class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker())
    from importlib import metadata

    found = metadata.distribution

    def distribution(name: str) -> metadata.Distribution:
        if name in BLOCKED:
            raise metadata.PackageNotFoundError(name)
        return found(name)

    metadata.distribution = distribution
    for module in ALSO:
        import_module(f"CBCTSuperResLib.{module}")
    from CBCTSuperResLib.cli import main

    code = main(sys.argv[1:])
    assert not set(BLOCKED) & set(sys.modules)
    sys.exit(code)

"""The Python packages that computing needs, and which of them are missing; `scene.installation` installs them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from .errors import DependencyError
from .gpus import count_gpus


@dataclass(frozen=True)
class Requirement:
    """One of several packages that all provide the same.

    Attributes
    ----------
    install : str
        What is installed if none of them is there.
    providers : tuple of str
        Names of the packages, any of which will do.
    minimum : tuple of int
        Lowest version that will do.
    module : str
        Name to import, where other ways of installing leave no metadata.
    """

    install: str
    providers: tuple[str, ...]
    minimum: tuple[int, ...] = ()
    module: str = ""

    @property
    def is_met(self) -> bool:
        """Looks at the installed metadata only, so that nothing is imported; a module without metadata is trusted."""
        versions = [found for package in self.providers if (found := _numbers(installed_version(package))) is not None]
        if not versions:
            return bool(self.module) and find_spec(self.module) is not None
        return any(version >= self.minimum for version in versions)


TORCH = Requirement("torch>=2.3", ("torch",), (2, 3))
SAFETENSORS = Requirement("safetensors", ("safetensors",))
"""Writes and reads weights for PyTorch; graphs are computed without it."""
ONNX_RUNTIME = Requirement("onnxruntime>=1.17", ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"), (1, 17))
"""Some 30 MB; applies models that have a graph where PyTorch is not installed."""
OTHERS = (
    Requirement(
        "opencv-python-headless>=4.8",
        ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
        (4, 8),
        "cv2",
    ),
    Requirement("pydicom>=2.4", ("pydicom",), (2, 4)),
    Requirement("tifffile>=2023.1.23", ("tifffile",), (2023, 1, 23)),
    Requirement("tqdm", ("tqdm",)),
)
TRAINING_EXTRAS = (
    Requirement("tensorboard>=2.15", ("tensorboard",), (2, 15)),
    Requirement("matplotlib>=3.7", ("matplotlib",), (3, 7)),
)


def missing_packages(requirements: Iterable[Requirement] = (TORCH, SAFETENSORS, *OTHERS)) -> list[str]:
    """What `pip install` would have to be given for computing to work; empty if all is there. Needs no Slicer."""
    return [requirement.install for requirement in requirements if not requirement.is_met]


def packages_to_offer(needs_torch: bool = True, engine: str = "auto") -> tuple[Requirement, ...]:
    """What computing is best done with: PyTorch on a CUDA device, and for all that nothing else does; otherwise what is
    there, or ONNX Runtime, which is small and may also be asked for as `engine`.
    """
    takes_torch = needs_torch or TORCH.is_met or (count_gpus() > 0 and engine != "onnxruntime")
    return ((TORCH, SAFETENSORS) if takes_torch else (ONNX_RUNTIME,)) + OTHERS


def require_packages(needs_torch: bool = True) -> None:
    """Say what is missing, for a process that cannot ask anybody. Needs no Slicer.

    Parameters
    ----------
    needs_torch : bool
        Whether ONNX Runtime will not do in place of PyTorch.

    Raises
    ------
    DependencyError
        If something is missing.
    """
    takes_torch = needs_torch or not ONNX_RUNTIME.is_met
    missing = missing_packages(((TORCH, SAFETENSORS) if takes_torch else (ONNX_RUNTIME,)) + OTHERS)
    if missing:
        small = "" if needs_torch else " In place of torch, onnxruntime applies most models without a GPU."
        raise DependencyError(
            f"These Python packages are needed and missing: {', '.join(missing)}.",
            f"Install them with pip; in Slicer, press Apply in the module, which offers to do it.{small}",
        )


def installed_version(package: str) -> str | None:
    """The version of an installed package, None if it is not installed or its metadata is broken.

    Nothing is imported. As panels ask often, the long description is not parsed, as `metadata.version` does.
    """
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    version = re.search(r"^Version:[ \t]*(\S+)", text, re.MULTILINE)
    return version[1] if version else None


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """The leading numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", version or "")[:3])) or None

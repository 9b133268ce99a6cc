"""CBCT super-resolution: from a cone-beam CT volume to a sharper one.

The public interface is what this module names; it needs only numpy and SimpleITK until a network runs.

>>> from CBCTSuperResLib import Model, Options, Volume, super_resolve
>>> scan = Volume.read("scan.nrrd")
>>> result = super_resolve(scan, Model.load("light"), Options(planes="axial"))
>>> result.write("scan SR x2.nrrd")
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0"
NOTICE = "Fine detail is predicted by a network; not for diagnosis."
"""What every command, report and result says."""

_PUBLIC = {
    "Grid": "core.volume",
    "Volume": "io.volume",
    "Window": "scan.window",
    "Options": "core.options",
    "Model": "models.model",
    "ModelCard": "models.card",
    "super_resolve": "apply.run",
    "SuperResError": "core.errors",
    "importers": "importers",
    "install": "scene.installation",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_PUBLIC[name]}")
    return getattr(home, name, home)

"""From files to batches: images decoded once, patches cut, degraded and augmented by draws of their own number.

    source = open_source(options.dataset("train"), options)
    batches = Batches(source, batch_size=32, seed=6, workers=8)
    batches.start(from_step=1)
    (batch,) = next(batches)   # {"LR": (32, 1, 64, 64), "HR": (32, 1, 128, 128)}

Names are loaded when they are used, so that `public`, which a bare Slicer asks for what is missing, loads no torch.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Batches": "batches",
    "ImagePair": "images",
    "Images": "images",
    "Source": "sources",
    "TrainingSource": "opening",
    "open_images": "images",
    "open_source": "opening",
}

__all__ = [*_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

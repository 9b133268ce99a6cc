"""Weights of other programs become models, and models become files that those programs read.

>>> model = importers.import_checkpoint("480000_G.pth", scale=2, window=(26000, 46000))
>>> model.save("mine.safetensors")
>>> importers.export_checkpoint(model, "480000_G.pth")
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..core.digest import file_sha256
from ..core.errors import ModelError
from ..models.card import ModelCard
from ..models.model import Model
from ..models.weights import refuse_non_finite
from ..scan.window import Window
from . import arssr, rrdb, spsr, srcyclegan
from .checkpoint import read_checkpoint
from .rrdb import TrunkReport, import_rrdb_trunk

__all__ = ["TrunkReport", "export_checkpoint", "import_checkpoint", "import_rrdb_trunk"]

LIMITS = (
    "Imported weights of unknown training: not tested on any scan by this program. "
    "Compare with interpolation before trusting detail."
)


LAYOUTS = {"SPSR": spsr, "ArSSR": arssr, "SR-CycleGAN": srcyclegan}


def import_checkpoint(
    path: str | Path,
    name: str | None = None,
    *,
    scale: int | None = None,
    taps: Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    title: str = "",
    licence: str = "unknown",
) -> Model:
    """Read weights of a UNetSPSR or SPSR generator, an ArSSR, or SR-CycleGAN's enlarging generator.

    Files are .pth, .pt, .ckpt, .pkl or .safetensors.

    What they are is told by the names of the tensors; nothing in the file is executed.

    Parameters
    ----------
    path : str or Path
    name : str, optional
        The model's name; default: the file's.
    scale : int, optional
        Of SPSR, needed for 3 only: a generator for 3 has the same tensors as one for 2. Other factors are read from the
        file.
    taps : sequence of four int, optional
        Of SPSR. After which RRDBs the gradient branch takes in the trunk's features; the file does not tell. Default:
        SPSR's 5, 10, 15, 20, or the quarters of a trunk of fewer than 20 RRDBs.
    window : (lo, hi), optional
        Grey values that the training normalised with; the file does not tell.
    title, licence : str, optional
        For the model's card.

    Returns
    -------
    Model
        Not saved yet, without a calibrated halo: SPSR and SR-CycleGAN run on whole slices, ArSSR in blocks whose halo
        is all that it can see. `card.training["notes"]` tells what was noticed in the file.

    Raises
    ------
    ModelError
        If the file is of another kind, holds objects that would have to be executed, or its tensors do not fit; the
        message lists them.
    OptionError
        If the window is none.
    """
    path = Path(path)
    if window is not None:
        Window(*map(float, window))  # which refuses what is none
    checkpoint = read_checkpoint(path, [module.detect for module in LAYOUTS.values()])
    tensors = checkpoint.tensors
    layout = next((name for name, module in LAYOUTS.items() if module.detect(tensors)), None)
    if layout is None:
        known = rrdb.recognise(tensors)
        if known:
            raise ModelError(
                f"{path} holds an {known}; this program has no such network.",
                "Its trunk can start the training of UNetSPSR (importers.import_rrdb_trunk), but it cannot be applied.",
            )
        names = ", ".join(list(tensors)[:5])
        raise ModelError(
            f"The tensors in {path} belong to no network that can be imported: {names}, ...",
            "Those that can be are the generators of SPSR and UNetSPSR, ArSSR, and SR-CycleGAN's enlarging generator.",
        )
    refuse_non_finite(tensors, path)
    if layout == "SPSR":
        network, notes = spsr.build(tensors, scale, taps)
    elif scale or taps:
        raise ModelError(
            f"{path} is of the layout {layout}, which has neither taps nor a fixed scale to name.", "Leave both out."
        )
    else:
        network, notes = LAYOUTS[layout].build(tensors)
    notes = [*checkpoint.notes, *notes]
    for note in notes:
        logging.getLogger(__name__).warning("%s: %s", path.name, note)
    card = ModelCard(
        name=name or path.stem,
        title=title or f"Imported from {path.name}",
        summary=f"A network of the {layout} layout, read from {path.name}.",
        licence=licence,
        spec=network.describe(),
        window=None if window is None else (float(window[0]), float(window[1])),
        output_window=srcyclegan.FINE_WINDOW if layout == "SR-CycleGAN" else None,
        training={
            "data": "unknown",
            "imported_from": path.name,
            "imported_sha256": file_sha256(path),
            "layout": layout,
            "notes": notes,
        },
        limits=LIMITS,
    )
    return Model(network, card)


def export_checkpoint(model: Model, path: str | Path) -> Path:
    """Write a model as a file that the program reads which its network comes from: SPSR and UNetSPSR, ArSSR or
    SR-CycleGAN.

    Raises
    ------
    ModelError
        If the network is of none of these, or that program could not compute it.
    OutputError
        If the file cannot be written.
    """
    return {"arssr": arssr, "srcyclegan": srcyclegan}.get(model.spec.network, spsr).export_checkpoint(model, path)

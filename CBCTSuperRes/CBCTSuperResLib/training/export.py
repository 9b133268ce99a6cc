"""From a run to a model file that Apply lists.

>>> export_run(root / "experiments" / "UNetSPSR", user_models_folder() / "mine.safetensors")
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import InputError, OutputError
from ..models.calibrate import calibrate
from ..models.listing import SUFFIX
from ..models.model import Model
from ..progress import part_of
from .options import read_options
from .run_card import levels_of_source, own_texts, run_card
from .watch.enlarge import undisturbed

if TYPE_CHECKING:
    from .options import TrainingOptions

__all__ = ["export_run", "levels_of_source", "make_run_model", "save_run_model"]

log = logging.getLogger(__name__)

BEST, LATEST = "best", "latest"
ROLE = "G"


def make_run_model(
    network: nn.Module, options: TrainingOptions, facts: Mapping, results: Mapping | None = None
) -> Model:
    """A model of what a run has come to, with its card filled and no halo: it runs on whole slices.

    Parameters
    ----------
    network : torch.nn.Module
        The running mean of the weights where there is one; it is copied, and goes on to be trained.
    options, facts, results
        See `run_card.run_card`.
    """
    own = copy.deepcopy(network).to("cpu", torch.float32)
    return Model(own, run_card(own.describe(), options, facts, results))


def save_run_model(
    network: nn.Module, options: TrainingOptions, facts: Mapping, results: Mapping | None, path: Path
) -> Path:
    """Write `make_run_model`'s model; torch's random state stays as it is."""
    with undisturbed():
        return make_run_model(network, options, facts, results).save(path)


def export_run(
    run: str | Path,
    out: str | Path,
    which: str | int = BEST,
    *,
    texts: Mapping | None = None,
    halo: bool = True,
    half: bool = False,
    device: str = "auto",
    progress: Callable[[float, str], None] | None = None,
) -> Path:
    """Make the model file of a run.

    Parameters
    ----------
    run : path
        The run's folder, path.root/experiments/NAME.
    out : path
        File to write; ends with .safetensors. In the folder of user models, Apply lists it.
    which : "best", "latest" or int
        The best by validation (the latest if nothing was validated), the latest, or that of an iteration.
    texts : mapping, optional
        Entries of the card: "name", "title", "summary", "limits", "licence", "voxel_size_mm". They go before those of
        "card" in the run's options.json, which may be edited for the purpose.
    halo : bool
        Measure the halo, so that large slices can be cut into tiles.
    half : bool
        Store float16 weights.
    device : str
        Where the halo is measured.
    progress : callable (fraction, message), optional

    Raises
    ------
    InputError
        If it is no run's folder, or the run has no such model; those that it has are listed.
    OutputError
        If the file cannot be written.
    """
    run, out = Path(run), Path(out)
    if out.suffix.lower() != SUFFIX:
        raise OutputError(f"{out} is no name of a model file.", f"Let it end with {SUFFIX}.")
    model = Model.load(find_run_model(run, which))
    texts = {**own_texts(read_options(run / "options.json")), **(texts or {})}
    if texts.get("voxel_size_mm"):
        texts["voxel_size_mm"] = tuple(map(float, texts["voxel_size_mm"]))
    model = Model(model.network, replace(model.card, **texts))
    if halo:
        model = calibrate(model, device=device, progress=part_of(progress, 0, 0.95))
    path = model.save(out, half=half)
    part_of(progress, 0.95, 1)(1, "Done")
    return path


def find_run_model(run: Path, which: str | int = BEST) -> Path:
    """The file within the run's folder that is meant; see `export_run`."""
    folder = run / "models"
    if not (run / "options.json").is_file():
        raise InputError(f"{run} is not the folder of a run.", "Give path.root/experiments/NAME.")
    path = folder / f"{which}_{ROLE}{SUFFIX}"
    if path.is_file():
        return path
    latest = folder / f"{LATEST}_{ROLE}{SUFFIX}"
    if which == BEST and latest.is_file():
        log.warning("The run %s was never validated, so its latest model is taken.", run.name)
        return latest
    there = [file.name.removesuffix(f"_{ROLE}{SUFFIX}") for file in sorted(folder.glob(f"*_{ROLE}{SUFFIX}"))]
    listed = f"There are: {', '.join(there)}." if there else "It saved no model yet."
    raise InputError(f"The run {run.name} has no model {which}.", listed)

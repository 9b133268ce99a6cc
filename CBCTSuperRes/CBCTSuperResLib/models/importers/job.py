"""Turning the weights of another program into a model file, as a job of the worker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ...errors import Cancelled
from ..calibrate import calibrate
from ..listing import SUFFIX, adopt_model
from . import import_checkpoint

READ = 0.1


def import_model(
    path: str | Path, folder: str | Path, progress: Callable[[float, str], None], stop: Callable[[], bool]
) -> dict:
    """Read weights, measure how far the network looks, so that it can run in tiles, and write a model file.

    Parameters
    ----------
    path : str or Path
        The weights, see `import_checkpoint`.
    folder : str or Path
        Of the user's models.
    progress : callable (fraction, message)
    stop : callable
        True ends the work.

    Returns
    -------
    dict
        "model", the file that was written; "name" of the model; "warnings", what was noticed in the weights.

    Raises
    ------
    ModelError, OutputError
        If the weights belong to no network that is known, or the file cannot be written.
    Cancelled
        If `stop` returns True.
    """

    def told(fraction: float, message: str) -> None:
        if stop():
            raise Cancelled()
        progress(READ + (1 - READ) * fraction, message)

    if stop():
        raise Cancelled()
    progress(0.0, "Reading the weights")
    model = import_checkpoint(path)
    told(0.0, "Measuring how far the network looks")
    model = calibrate(model, progress=told)
    with tempfile.TemporaryDirectory() as scratch:
        card = adopt_model(model.save(Path(scratch) / f"{model.card.name}{SUFFIX}"), folder)
    return {"model": str(card.path), "name": card.name, "warnings": list(card.training["notes"])}

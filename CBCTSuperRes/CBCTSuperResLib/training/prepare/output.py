"""What is written: a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ...errors import OutputError
from ...files import write_volume
from ...files.disk import check_disk
from ...volume import Grid, Volume
from .images import stop_if

TRANSFORM, REPORT, PICTURE, DATASETS = "lr_to_hr.tfm", "report.json", "checkerboard.png", "datasets.json"
ELSEWHERE = "Choose another folder, or remove it first."


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` when all went well, and vanishes otherwise.

    Raises
    ------
    OutputError
        If `out` exists and is not an empty folder, or cannot be made.
    """
    out = Path(out).expanduser().absolute()
    check_free(out)
    temporary = out.with_name(f".cbctsr-{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        raise OutputError(f"Writing {out} failed: {error}.", "Check the disk, or choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises
    ------
    OutputError
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file.", "Name a folder to be made.")
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} exists and is not empty.", ELSEWHERE)


def write_images(
    folder: Path,
    name: str,
    voxels: np.ndarray,
    grid: Grid,
    form: str,
    first_slice: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> list[str]:
    """Write uint16 voxels as `NAME_0000.tif` and so on, numbered from `first_slice`, or as `NAME.nrrd`.

    Returns
    -------
    list of str
        The files' names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_disk(folder, voxels.nbytes)
    if form == "nrrd":
        write_volume(Volume(voxels, grid), folder / f"{name}.nrrd")
        return [f"{name}.nrrd"]
    names = [f"{name}_{first_slice + k:04d}.{form}" for k in range(len(voxels))]
    for slice_, file in zip(voxels, names, strict=True):
        stop_if(cancelled)
        done, data = cv2.imencode(f".{form}", slice_, _ENCODING[form])
        if not done:
            raise OSError(f"{file} could not be encoded")
        (folder / file).write_bytes(data.tobytes())
    return names


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def dataset(name: str, hr: str | Sequence[str], lr: str | Sequence[str], window: Sequence[float] | None = None) -> dict:
    """What `datasets.train` or `datasets.val` of a training's options has to say of the written images.

    They need no normalization_range: 0 and 65535 are the window's bounds. `window` tells which grey values of the LR
    scans these were, for the model's card.
    """
    block = {"name": name, "mode": "LRHR", "dataroot_HR": hr, "dataroot_LR": lr}
    return block if window is None else {**block, "scanner_window": list(window)}


_ENCODING = {"tif": [cv2.IMWRITE_TIFF_COMPRESSION, 1], "png": [cv2.IMWRITE_PNG_COMPRESSION, 1]}

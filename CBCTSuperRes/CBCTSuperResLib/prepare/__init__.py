"""From two scans of one object to aligned training pairs.

>>> from CBCTSuperResLib.prepare import PrepareOptions, prepare
>>> prepare("P01 0.25 mm.nrrd", "P01 0.125 mm.nrrd", "pairs", PrepareOptions(window=(26000, 46000)))

This file and `options` import nothing that a bare Slicer lacks; the others need OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.progress import Report
from ..io.folders import scans_in
from .options import PrepareOptions

__all__ = ["PrepareOptions", "prepare"]


def prepare(
    lr: str | Path,
    hr: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """`folders.prepare_folders` for two folders of scans, `pair.prepare_pair` for two scans.

    Returns
    -------
    dict
        The content of report.json; "warnings" holds sentences for the user.
    """
    from .folders import prepare_folders
    from .pair import prepare_pair

    many = holds_scans(lr) and holds_scans(hr)
    return (prepare_folders if many else prepare_pair)(lr, hr, out, options, progress, cancelled)


def holds_scans(path: str | Path) -> bool:
    """Whether a folder holds scans, rather than being one: see `io.folders`."""
    path = Path(path).expanduser()
    return path.is_dir() and scans_in(path)[0] not in ([], [path])

"""What `cbct-superres prepare` does."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ...progress import Report
from . import prepare
from .arguments import options_from
from .output import DATASETS, PICTURE, REPORT


def run(parsed: argparse.Namespace, progress: Report | None = None) -> str:
    """Make the pairs; the return value tells the user what was made.

    Raises
    ------
    SuperResError
        See `pair.prepare_pair` and `folders.prepare_folders`; `Cancelled` after Ctrl-C.
    """
    options = options_from(parsed)
    with _interrupts() as interrupted:
        report = prepare(parsed.lr, parsed.hr, parsed.out, options, progress, lambda: bool(interrupted))
    return (text_of_folders if "pairs" in report else text_of_pair)(report, parsed.out)


def text_of_pair(report: Mapping, out: Path) -> str:
    """What a user wants to know of one pair."""
    region, alignment = report["region"], report["alignment"]
    lines = [
        f"Registered from {report['registration']['begun_from']}."
        if report["registration"]["done"]
        else "Taken to be aligned.",
        f"Residual misalignment {alignment['median_mm']:.3f} mm (median), {alignment['p95_mm']:.3f} mm (95 %), "
        f"where an LR voxel is {alignment['lr_voxel_mm']:.3g} mm.",
        f"HR {_by(region['hr_size'])} voxels, LR {_by(region['lr_size'])} voxels, {region['filled_share']:.1%} filled.",
        report["window_reason"],
        *(f"Warning: {text}" for text in report["warnings"]),
        f"Written to {out}: look at {PICTURE}; {DATASETS} is what a training's options need.",
    ]
    return "\n".join(lines)


def text_of_folders(report: Mapping, out: Path) -> str:
    """What a user wants to know of many pairs."""
    lines = [
        f"{pair['set']:5}  {pair['median_mm']:.3f} mm  {pair['slices']:5} slices  {pair['name']}"
        for pair in report["pairs"]
    ]
    return "\n".join(
        [
            *lines,
            *(f"Warning: {text}" for text in report["warnings"]),
            f"{len(report['pairs'])} pairs written to {out}, {len(report['failed'])} failed; see {REPORT} there.",
        ]
    )


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals that came in: an exception of Ctrl-C would be lost within SimpleITK."""
    came: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: came.append(number)) for kind in kinds]
    try:
        yield came
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _by(numbers: list[int]) -> str:
    return " x ".join(map(str, numbers))

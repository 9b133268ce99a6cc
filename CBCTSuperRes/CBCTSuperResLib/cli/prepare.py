"""The command `cbct-superres prepare`: aligned training pairs of two scans of the same object."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from ..prepare.options import FORMATS, INTENSITIES, PLANES, REGIONS, PrepareOptions
from ..scan.window import PRESETS
from .terminal import Progress, add_command, blank_value


def add_prepare_command(commands) -> None:
    """Declare it."""
    add_prepare_arguments(add_command(commands, "prepare", "make aligned training pairs of two scans", run_prepare))


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add everything that decides how pairs are made; `options_from` reads it back."""
    default = PrepareOptions()
    scan = "NRRD, NHDR, MHA, NIfTI, a DICOM folder or a folder of slices; or a folder of such scans"
    parser.add_argument("--lr", type=Path, required=True, metavar="SCAN", help=f"low-resolution scan: {scan}")
    parser.add_argument(
        "--hr", type=Path, required=True, metavar="SCAN", help="high-resolution scan of the same object"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to be made")

    what = parser.add_argument_group("pairs")
    what.add_argument("--scale", type=int, default=default.scale, metavar="S", help="HR pixels along an LR pixel")
    what.add_argument(
        "--planes", choices=PLANES, default=default.planes, help="LR is coarser in-plane or along all axes"
    )
    what.add_argument("--format", choices=FORMATS, default=default.format, help="16-bit slices, or volumes")
    what.add_argument(
        "--region",
        choices=REGIONS,
        default=default.region,
        help="the largest box inside both fields of view, or the whole of what they share, its corners filled",
    )
    what.add_argument(
        "--min-size", type=int, default=default.min_size, metavar="N", help="least HR width: HR_size of the training"
    )
    what.add_argument("--min-slices", type=int, default=default.min_slices, metavar="N", help="least number of slices")

    grey = parser.add_argument_group("grey values")
    window = grey.add_mutually_exclusive_group()
    window.add_argument(
        "--window", type=float, nargs=2, metavar=("LO", "HI"), help="range of the HR scan's grey values"
    )
    window.add_argument("--preset", choices=PRESETS, metavar="NAME", help=f"range by name: {', '.join(PRESETS)}")
    grey.add_argument(
        "--intensity",
        choices=INTENSITIES,
        default=default.intensity,
        help="the LR scan has the same window, or that matched by its grey values",
    )
    for side in ("lr", "hr"):
        grey.add_argument(
            f"--blank-{side}", type=blank_value, default="auto", metavar="auto|none|VALUE", help="what is blank region"
        )

    how = parser.add_argument_group("registration")
    how.add_argument("--initial", metavar="FILE", help="transform of the LR volume onto the HR volume to start from")
    how.add_argument(
        "--no-register", dest="register", action="store_false", help="the scans are aligned already; only measure it"
    )
    how.add_argument("--max-rotation", dest="max_rotation_deg", type=float, default=default.max_rotation_deg)
    how.add_argument(
        "--max-shift", dest="max_shift_mm", type=float, metavar="MM", help="(default: half the HR diagonal)"
    )
    how.add_argument("--min-overlap", type=float, default=default.min_overlap, metavar="SHARE")
    how.add_argument(
        "--max-residual", type=float, default=default.max_residual, metavar="N", help="median misalignment in LR voxels"
    )
    how.add_argument("--min-correlation", type=float, default=default.min_correlation, metavar="R")
    how.add_argument("--seed", type=int, default=default.seed, help="of the registration's samples and of the split")

    many = parser.add_argument_group("folders of scans")
    many.add_argument(
        "--val-share", type=float, default=default.val_share, metavar="SHARE", help="of the patients, for validation"
    )
    many.add_argument(
        "--patient-pattern", metavar="REGEX", help="what of a name is the patient, for instance '^(P\\d+)'"
    )

    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--override", action="store_true", help="believe --lr-spacing, --hr-spacing where a file records another one"
    )
    for side in ("lr", "hr"):
        reading.add_argument(f"--{side}-spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help="voxels in mm")
        reading.add_argument(f"--{side}-series", metavar="UID", help="series of a DICOM folder")


def options_from(parsed: argparse.Namespace) -> PrepareOptions:
    """The options of a parsed command line.

    Raises
    ------
    OptionError
        If a value makes no sense.
    """
    values = {f.name: getattr(parsed, f.name) for f in fields(PrepareOptions) if hasattr(parsed, f.name)}
    values["window"] = parsed.preset or parsed.window
    return PrepareOptions(**values)


def run_prepare(parsed: argparse.Namespace) -> None:
    """`cbct-superres prepare`"""
    from ..prepare import prepare

    options = options_from(parsed)
    with Progress(quiet=False) as progress:
        report = prepare(parsed.lr, parsed.hr, parsed.out, options, progress)
    warnings = [f"Warning: {text}" for text in report["warnings"]]
    if "pairs" in report:  # of folders
        sets = list(report["patients"].values())
        lines = [
            *(f"{pair['name']} ({pair['set']})" for pair in report["pairs"]),
            *(f"{failed['name']} failed: {failed['what']} {failed['advice']}" for failed in report["failed"]),
            f"{sets.count('train')} patients for training, {sets.count('val')} for validation.",
        ]
    else:
        size, found = " x ".join(map(str, report["region"]["hr_size"])), report["alignment"]
        lines = [
            f"{report['name']}: {size} HR voxels, residual misalignment {found['median_mm']:.3f} mm (median), "
            f"{found['p95_mm']:.3f} mm (95 %).",
            report["window_reason"],
        ]
    print("\n".join([*lines, *warnings, f"Written to {parsed.out}. Look at checkerboard.png before you train."]))

"""The command `cbct-superres phantom`: scans whose truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path

from .terminal import Progress, add_command


def add_phantom_command(commands) -> None:
    """Declare it."""
    phantom = add_command(commands, "phantom", "make scans of a jaw whose truth is known", run_phantom)
    phantom.add_argument(
        "--out", type=Path, required=True, help="folder for fine, coarse and truth .nrrd and a picture"
    )
    phantom.add_argument(
        "--shape", type=int, nargs=3, default=(64, 256, 256), metavar=("K", "J", "I"), help="voxels of the fine scan"
    )
    phantom.add_argument("--spacing", type=float, default=0.125, metavar="MM", help="voxels of the fine scan")
    phantom.add_argument("--seed", type=int, default=0, help="another number, another jaw")
    phantom.add_argument("--planes", choices=("axial", "isotropic"), default="axial", help="axes with half the samples")
    phantom.add_argument(
        "--thick-slices",
        type=int,
        default=1,
        metavar="N",
        help="make the coarse scan as fine as the fine one within slices, which are N times as thick",
    )
    phantom.add_argument("--noise", type=float, default=0.02, help="of the coarse scan, as a share of the window")
    phantom.add_argument("--metal", action="store_true", help="put a metal crown onto one tooth")
    phantom.add_argument("--no-artefacts", action="store_true", help="neither cupping nor rings nor streaks")
    phantom.add_argument("--no-blank", action="store_true", help="measure outside the cylinder too")
    phantom.add_argument(
        "--labels", type=Path, metavar="FILE", help="draw into a label map: 1, 2 bone, 3, 4 teeth, 5 canal"
    )
    phantom.add_argument(
        "--physics",
        choices=("image", "fdk"),
        default="image",
        help="add a scanner's effects to the image, or project and reconstruct (slow; with --planes isotropic)",
    )
    phantom.add_argument("--projections", type=int, default=360, help="over the whole turn, for fdk")


def run_phantom(parsed: argparse.Namespace) -> None:
    """`cbct-superres phantom`"""
    from ..acquisition.phantom_files import PhantomRequest, write_phantom

    request = PhantomRequest(
        shape=tuple(parsed.shape),
        spacing_mm=parsed.spacing,
        seed=parsed.seed,
        planes=parsed.planes,
        thick_slices=parsed.thick_slices,
        metal=parsed.metal,
        noise=parsed.noise,
        artefacts=not parsed.no_artefacts,
        blank=None if parsed.no_blank else 0.0,
        labels=str(parsed.labels) if parsed.labels else None,
        physics=parsed.physics,
        projections=parsed.projections,
    )
    with Progress(quiet=False) as progress:
        folder = write_phantom(request, parsed.out, progress)
    print(f"Written to {folder}: fine.nrrd, coarse.nrrd, truth.nrrd, phantom.json, picture.png")

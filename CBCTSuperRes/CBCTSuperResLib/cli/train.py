"""The arguments of `cbct-superres prepare`.

The commands `cbct-superres train`, `test`, `prepare` and `export`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from ..core.errors import InputError
from ..prepare.options import FORMATS, INTENSITIES, PLANES, REGIONS, PrepareOptions
from ..scan.window import PRESETS
from .terminal import Progress, add_command


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
            f"--blank-{side}", type=_blank, default="auto", metavar="auto|none|VALUE", help="what is blank region"
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


def _blank(text: str) -> str | float:
    if text in ("auto", "none"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither "auto", "none" nor a grey value') from None


def add_training_commands(commands) -> None:
    """Declare the commands that make a model."""
    train = add_command(commands, "train", "train a model from an options file", run_train)
    _add_options_file(train)
    train.add_argument("--dry-run", action="store_true", help="check the options and files, tell memory and time, stop")
    train.add_argument("--resume", metavar="auto|FILE", help="go on from the newest checkpoint, or from this one")
    train.add_argument(
        "--accept-changes", action="store_true", help="resume although options differ from the checkpoint's"
    )
    train.add_argument("--processes", type=int, default=None, metavar="N", help="train in N processes on the CPU")
    train.add_argument("--feature-weights", metavar="FILE", help="VGG19 weights (vgg19-dcbb9e9d.pth)")
    train.add_argument("--import-g", metavar="FILE", help="start from these weights: a model, SPSR's or ESRGAN's .pth")
    train.add_argument("--data", metavar="FOLDER", help="folder with the public scans that the options name")
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")

    test = add_command(commands, "test", "super-resolve the test images of an options file and measure", run_test)
    _add_options_file(test)
    test.add_argument("--quiet", action="store_true", help="print nothing but errors")

    pass  # NOIMPORT

    add_prepare_arguments(add_command(commands, "prepare", "make aligned training pairs of two scans", run_prepare))

    export = add_command(commands, "export", "make a model of a training run, for apply", run_export)
    export.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run: ROOT/experiments/NAME")
    export.add_argument(
        "--out", type=Path, help="file to write (default: NAME.safetensors in the folder of user models)"
    )
    export.add_argument("--which", default="best", metavar="best|latest|STEP", help="which state of the run")
    export.add_argument("--half", action="store_true", help="weights as float16: half the size")
    export.add_argument(
        "--no-halo",
        dest="halo",
        action="store_false",
        help="do not measure the halo, which takes an hour for the full size on a CPU: whole slices only",
    )
    export.add_argument("--device", default="auto", help="where to measure the halo")


def _add_options_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="options file (JSON)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change options, for instance network_G.nf=32 train.feature_weight=0",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default: as gpu_ids say)")


def run_train(parsed: argparse.Namespace) -> int:
    """`cbct-superres train`"""
    from ..train.checks import read_options

    options = read_options(parsed.opt, _overrides(parsed))
    if parsed.dry_run:
        return _tell_plan(options, parsed.device)
    from ..train.logs import Console
    from ..train.run import train

    train(
        options,
        resume=parsed.resume,
        accept_changes=parsed.accept_changes or _ask_about_changes,
        device=parsed.device,
        processes=parsed.processes,
        observers=[] if parsed.quiet else [Console()],
    )
    return 0


def _tell_plan(options, device: str | None) -> int:
    from ..train.plan import plan

    found = plan(options, device or "auto", measure=True)
    print(found.text())
    return InputError.exit_code if found.missing or found.problems else 0


def _overrides(parsed: argparse.Namespace) -> list[str]:
    """Changes to the options file, the shortcuts included."""
    shortcuts = {
        "path.feature_weights": parsed.feature_weights,
        "path.pretrain_model_G": parsed.import_g,
        "path.public_data": parsed.data,
    }
    return [*parsed.set, *(f"{key}={json.dumps(value)}" for key, value in shortcuts.items() if value)]


def _ask_about_changes(changes: list[str]) -> bool:
    """Show what differs from the checkpoint and ask; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    print("The options differ from those of the checkpoint:\n  " + "\n  ".join(changes), file=sys.stderr)
    return input("Go on with the new ones? [y/N] ").strip().lower() in ("y", "yes")


def run_test(parsed: argparse.Namespace) -> None:
    """`cbct-superres test`"""
    from ..train.checks import read_options
    from ..train.test import report_text, test

    options = read_options(parsed.opt, parsed.set, is_train=False)
    with Progress(parsed.quiet) as progress:
        report = test(options, device=parsed.device, progress=progress)
    if not parsed.quiet:
        print(report_text(report))


def run_prepare(parsed: argparse.Namespace) -> None:
    """`cbct-superres prepare`"""
    from ..prepare import prepare

    pass  # NOIMPORT

    options = options_from(parsed)
    with Progress(quiet=False) as progress:
        report = prepare(parsed.lr, parsed.hr, parsed.out, options, progress)
    print("\n".join([*_prepared(report), f"Written to {parsed.out}. Look at checkerboard.png before you train."]))


def run_export(parsed: argparse.Namespace) -> None:
    """`cbct-superres export`"""
    from ..models.folder import user_models_folder
    from ..train.export import export_run

    which = int(parsed.which) if parsed.which.isdigit() else parsed.which
    out = parsed.out or user_models_folder() / f"{parsed.run_folder.resolve().name}.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    with Progress(quiet=False) as progress:
        path = export_run(
            parsed.run_folder, out, which, halo=parsed.halo, half=parsed.half, device=parsed.device, progress=progress
        )
    print(f"Written to {path}")


def _prepared(report: dict) -> list[str]:
    """What a user wants to know of prepared pairs."""
    warnings = [f"Warning: {text}" for text in report["warnings"]]
    if "pairs" not in report:
        return [_pair_line(report["name"], report["region"], report["alignment"]), report["window_reason"], *warnings]
    sets = list(report["patients"].values())
    return [
        *(f"{pair['name']} ({pair['set']})" for pair in report["pairs"]),
        *(f"{failed['name']} failed: {failed['what']} {failed['advice']}" for failed in report["failed"]),
        f"{sets.count('train')} patients for training, {sets.count('val')} for validation.",
        *warnings,
    ]


def _pair_line(name: str, region: dict, alignment: dict) -> str:
    size = " x ".join(map(str, region["hr_size"]))
    found = f"residual misalignment {alignment['median_mm']:.3f} mm (median), {alignment['p95_mm']:.3f} mm (95 %)"
    return f"{name}: {size} HR voxels, {found}."

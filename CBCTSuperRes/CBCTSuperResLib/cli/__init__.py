"""The command `cbct-superres`: apply, info, models, train, test, prepare, export, phantom, for a terminal or a script.

Exit codes: 0 done, 2 wrong options, 3 scan, 4 model, 5 memory or disk, 6 device, 7 output, 8 missing package,
130 cancelled, 1 anything else.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..core.errors import (
    Cancelled,
    DependencyError,
    OptionError,
    SuperResError,
)
from .apply import add_apply_arguments, options_from_arguments
from .evaluate import add_evaluate_command
from .phantom import add_phantom_command
from .terminal import NOTICE, Progress, add_command
from .train import add_training_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve a machine that does other work too
    parsed = make_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _raise_cancelled)
    try:
        return parsed.run(parsed) or 0
    except SuperResError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(
            f"Error: The package {error.name} is not installed. Install it: pip install cbct-superres", file=sys.stderr
        )
        return DependencyError.exit_code
    except KeyboardInterrupt:
        print("Cancelled; nothing was written.", file=sys.stderr)
        return Cancelled.exit_code
    except BrokenPipeError:  # whoever read the output, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="cbct-superres", description="Super-resolution of cone-beam CT.", epilog=NOTICE
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    apply = add_command(commands, "apply", "super-resolve a scan", run_apply)
    apply.add_argument("scan", help="NRRD, NHDR, MHA, NIfTI, a DICOM folder, or a folder of 16-bit TIFF or PNG slices")
    apply.add_argument("output", help="file to write: .nrrd, .mha, .nii or .nii.gz; a report is written beside it")
    add_apply_arguments(apply)
    apply.add_argument("--quiet", action="store_true", help="print nothing but errors")

    info = add_command(commands, "info", "what a scan is and what a run on it would give and need", run_info)
    info.add_argument("scan")
    add_apply_arguments(info)
    info.add_argument("--json", action="store_true", help="print JSON")

    add_training_commands(commands)
    add_evaluate_command(commands)
    add_phantom_command(commands)
    _add_models_commands(
        add_command(commands, "models", "list, show, verify, import models").add_subparsers(required=True)
    )
    return parser


def _add_models_commands(commands) -> None:
    listing = add_command(commands, "list", "all models that can be chosen by name", run_models_list)
    listing.add_argument("--json", action="store_true", help="print JSON")
    for name, text, run in (
        ("show", "the whole card of a model", run_models_show),
        ("verify", "check a model's file and that its network still computes the same", run_models_verify),
    ):
        add_command(commands, name, text, run).add_argument("model", help="name or file")

    importer = add_command(commands, "import", "turn SPSR or UNetSPSR weights (.pth) into a model", run_models_import)
    importer.add_argument("checkpoint")
    importer.add_argument("--name", help="name of the model (default: the file's)")
    importer.add_argument("--out", type=Path, help="file to write (default: in the folder of user models)")
    importer.add_argument("--scale", type=int, help="needed for 3 only: the file looks like one for 2")
    importer.add_argument("--taps", type=int, nargs=4, help="RRDBs after which the gradient branch takes features in")
    importer.add_argument(
        "--window", type=float, nargs=2, metavar=("LO", "HI"), help="range the training normalised with"
    )
    importer.add_argument("--title", default="")
    importer.add_argument("--licence", default="unknown")
    importer.add_argument("--calibrate", action="store_true", help="measure the halo too, so that tiles can be used")

    calibrator = add_command(
        commands, "calibrate", "measure a model's halo and write it into its file", run_models_calibrate
    )
    calibrator.add_argument("model", help="name or file")
    calibrator.add_argument("--out", type=Path, help="file to write (default: the model's own)")
    calibrator.add_argument("--device", default="auto")

    exporter = add_command(commands, "export", "write a UNetSPSR model as SPSR weights (.pth)", run_models_export)
    exporter.add_argument("model", help="name or file")
    exporter.add_argument("out", type=Path)


def run_apply(parsed: argparse.Namespace) -> None:
    """`cbct-superres apply`"""
    from ..apply.file import apply_to_file

    options = options_from_arguments(parsed)
    with Progress(parsed.quiet) as progress:
        report = apply_to_file(
            parsed.scan,
            parsed.output,
            parsed.model,
            options,
            progress,
            compress=parsed.compress,
            spacing=parsed.spacing,
            series=parsed.series,
        )
    if not parsed.quiet:
        print(result_text(report, parsed.output))


def run_info(parsed: argparse.Namespace) -> None:
    """`cbct-superres info`"""
    from .apply import facts_of_scan, facts_text

    facts = facts_of_scan(parsed.scan, parsed.model, options_from_arguments(parsed), parsed.spacing, parsed.series)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if parsed.json else facts_text(facts))


def run_models_list(parsed: argparse.Namespace) -> None:
    """`cbct-superres models list`"""
    from ..models.folder import list_models, user_models_folder

    entries = list_models()
    if parsed.json:
        print(json.dumps([{"name": e.name, "file": str(e.path), "problem": e.problem} for e in entries], indent=2))
        return
    for entry in entries:
        print(entry.card.line if entry.card else f"{entry.path.name}: cannot be used. {entry.problem}")
    print(f"\nYour own models belong into {user_models_folder()}")


def run_models_show(parsed: argparse.Namespace) -> None:
    """`cbct-superres models show`"""
    from ..models.card import read_card
    from ..models.folder import find_model

    path = find_model(parsed.model)
    print(json.dumps({"file": str(path), **read_card(path).to_json()}, indent=2, ensure_ascii=False))


def run_models_verify(parsed: argparse.Namespace) -> int:
    """`cbct-superres models verify`"""
    from ..core.errors import ModelError
    from ..models.model import Model

    checks = Model.load(parsed.model).verify()
    for what, right, details in checks:
        print(f"{'ok ' if right else 'BAD'} {what}: {details}")
    return 0 if all(right for _, right, _ in checks) else ModelError.exit_code


def run_models_import(parsed: argparse.Namespace) -> None:
    """`cbct-superres models import`"""
    from ..importers import import_checkpoint
    from ..models.folder import user_models_folder

    window = tuple(parsed.window) if parsed.window else None
    model = import_checkpoint(
        parsed.checkpoint,
        parsed.name,
        scale=parsed.scale,
        taps=parsed.taps,
        window=window,
        title=parsed.title,
        licence=parsed.licence,
    )
    if parsed.calibrate:
        model = _calibrated(model, "auto")
    path = parsed.out or user_models_folder() / f"{model.card.name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{model.card.line}\nWritten to {model.save(path)}")


def run_models_calibrate(parsed: argparse.Namespace) -> None:
    """`cbct-superres models calibrate`"""
    from ..models.folder import find_model
    from ..models.model import Model

    path = find_model(parsed.model)
    model = _calibrated(Model.load(path), parsed.device)
    print(f"Halo {model.card.spec.halo} pixels. Written to {model.save(parsed.out or path)}")


def run_models_export(parsed: argparse.Namespace) -> None:
    """`cbct-superres models export`"""
    from ..importers.spsr import export_checkpoint
    from ..models.model import Model

    if parsed.out.suffix != ".pth":
        raise OptionError(f"{parsed.out.name} is no .pth file.", "Name the output something.pth.")
    export_checkpoint(Model.load(parsed.model), parsed.out)
    print(f"Written to {parsed.out}")


def result_text(report: dict, output: str) -> str:
    """What a user wants to know after a run."""
    run = report["super_resolution"]
    lines = [
        f"Model {run['model']} on {run['device']}, {run['precision']}, {run['seconds']['computing']:.1f} s.",
        run["window_reason"],
        run["blank"]["rule"],
        *(f"Warning: {text}" for text in run["warnings"]),
        *run["notes"],
        *(f"{figure['label']}: {figure['text']}" for figure in run["quality"]["figures"]),
        *(f"Warning: {text}" for text in run["quality"]["warnings"]),
        f"Result: {' x '.join(map(str, run['output_size']))} voxels of "
        f"{' x '.join(f'{s:.4g}' for s in run['output_spacing_mm'])} mm in {output}",
        *(f"{words.capitalize()} in {path}" for words, path in report.get("beside", {}).items()),
        NOTICE,
    ]
    return "\n".join(lines)


def _calibrated(model, device: str):
    from ..apply.calibration import calibrate

    with Progress(quiet=False) as progress:
        return calibrate(model, device=device, progress=progress)


def _raise_cancelled(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

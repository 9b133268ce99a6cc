"""The commands `cbct-superres models`: list, show, verify, import, calibrate and export models."""

from __future__ import annotations

import argparse
import json
import sys
from math import prod
from pathlib import Path

from ..core.errors import DependencyError, ModelError, OptionError
from ..models.card import ModelCard
from ..models.intervals import Intervals
from .terminal import Progress, add_command


def add_models_commands(commands) -> None:
    """Declare them."""
    models = add_command(commands, "models", "list, show, verify, import models").add_subparsers(required=True)
    listing = add_command(models, "list", "all models that can be chosen by name", run_models_list)
    listing.add_argument("--json", action="store_true", help="print JSON")
    for name, text, run in (
        ("show", "the whole card of a model", run_models_show),
        ("verify", "check a model's file and that its network still computes the same", run_models_verify),
    ):
        add_command(models, name, text, run).add_argument("model", help="name or file")

    importer = add_command(
        models, "import", "turn SPSR, UNetSPSR, SR-CycleGAN (.pth) or ArSSR (.pkl) weights into a model",
        run_models_import,
    )  # fmt: skip
    importer.add_argument("checkpoint")
    importer.add_argument("--name", help="name of the model (default: the file's)")
    importer.add_argument("--out", type=Path, help="file to write (default: in the folder of user models)")
    importer.add_argument("--scale", type=int, help="of SPSR, for 3 only: the file looks like one for 2")
    importer.add_argument("--taps", type=int, nargs=4, help="of SPSR: RRDBs after which its branch takes features in")
    importer.add_argument(
        "--window", type=float, nargs=2, metavar=("LO", "HI"), help="range the training normalised with"
    )
    importer.add_argument("--title", default="")
    importer.add_argument("--licence", default="unknown")
    importer.add_argument("--calibrate", action="store_true", help="measure the halo too, so that tiles can be used")

    calibrator = add_command(
        models, "calibrate", "measure a model's halo, or scale its error bars, and write it into its file",
        run_models_calibrate,
    )  # fmt: skip
    calibrator.add_argument("model", help="name or file")
    calibrator.add_argument(
        "--intervals",
        action="store_true",
        help="compare its error bars with its errors, so that 90 %% intervals hold; on drawn jaws, or on each --pair",
    )
    calibrator.add_argument(
        "--pair",
        nargs=2,
        action="append",
        type=Path,
        default=[],
        metavar=("SCAN", "TRUTH"),
        help="a scan and a finer one of the same object in the same place; up to five times",
    )
    calibrator.add_argument(
        "--out", type=Path, help="file to write (default: the model's own; needed for shipped models)"
    )
    calibrator.add_argument("--device", default="auto")

    exporter = add_command(
        models, "export", "write a model as a graph (.onnx), or as SPSR (.pth) or ArSSR (.pkl) weights",
        run_models_export,
    )  # fmt: skip
    exporter.add_argument("model", help="name or file")
    exporter.add_argument(
        "out", type=Path, help="a graph beside its model file, of the same name, refers to the weights in that file"
    )


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
    card = read_card(path)
    facts, spec = {"file": str(path), **card.to_json()}, card.spec
    outputs = prod(spec.scale or [1.0])  # output voxels for one input voxel
    facts["spec"] = {  # also by the names of version 0.1.0, for scripts that read them
        **facts["spec"],
        "halo": spec.context if spec.can_be_cut else None,
        "decode_halo": spec.decode_context,
        "flops_per_voxel": spec.encode_flops + spec.decode_flops * outputs,
        "bytes_per_voxel": spec.encode_bytes,
        "decode_bytes_per_voxel": spec.decode_bytes * outputs,
    }
    print(json.dumps(facts, indent=2, ensure_ascii=False))


def run_models_verify(parsed: argparse.Namespace) -> int:
    """`cbct-superres models verify`"""
    from ..apply.engines.verify import verify_model

    checks = verify_model(parsed.model)
    for what, right, details in checks:
        if right is None:
            print(f"?   {what}: not checked", flush=True)
            print(details, file=sys.stderr)
        else:
            print(f"{'ok ' if right else 'BAD'} {what}: {details}")
    found = {right for _, right, _ in checks}
    return ModelError.exit_code if False in found else DependencyError.exit_code if None in found else 0


def run_models_import(parsed: argparse.Namespace) -> None:
    """`cbct-superres models import`"""
    from ..importers import import_checkpoint
    from ..models.folder import user_models_folder

    if parsed.name and Path(parsed.name).name != parsed.name:
        raise OptionError(f"{parsed.name} is a path, not a name.", "Name the file to write by --out.")
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
    from ..models.folder import find_model, is_shipped_model, user_models_folder
    from ..models.model import Model

    path = find_model(parsed.model)
    if parsed.out is None and is_shipped_model(path):
        raise OptionError(
            f"{path.stem} came with the program, and its file is left as it is.",
            f"Name a file for the calibrated model with --out, in {user_models_folder()} for instance.",
        )
    if parsed.pair and not parsed.intervals:
        raise OptionError("Pairs of scans calibrate error bars.", "Add --intervals.")
    if parsed.intervals:
        from ..evaluate.intervals import calibrate_intervals

        with Progress(quiet=False) as progress:
            found = calibrate_intervals(Model.load(path), parsed.pair, device=parsed.device, progress=progress)
        print(intervals_text(found.model.card, found.coverage))
        print(f"Written to {found.model.save(parsed.out or path)}")
        return
    model = _calibrated(Model.load(path), parsed.device)
    print(f"Halo {model.card.spec.context} pixels. Written to {model.save(parsed.out or path)}")


def intervals_text(card: ModelCard, coverage: dict[str, float]) -> str:
    """What was found of a model's error bars, for a terminal."""
    found = Intervals.from_json(card.intervals)
    head = ["blur \\ noise", *(f"{noise:.1%}" for noise in found.noise)]
    rows = [
        [f"{blur:.2f} voxels", *(f"{value:.2f}" for value in row)]
        for blur, row in zip(found.blur, found.quantiles, strict=True)
    ]
    lines = [
        f"Deviations on either side that hold 90 % of the errors, of {found.voxels:,d} voxels of {found.made_on}:",
        *("".join(f"{cell:>14}" for cell in row) for row in (head, *rows)),
        "Share that they hold of other scans:" if len(coverage) > 1 else "Share that they hold:",
        *(f"  {share:.1%}  {name}" for name, share in coverage.items()),
    ]
    return "\n".join(lines)


def run_models_export(parsed: argparse.Namespace) -> None:
    """`cbct-superres models export`"""
    from ..importers import export_checkpoint
    from ..models.graph import SUFFIX, make_graph
    from ..models.model import Model

    if parsed.out.suffix not in (".pth", ".pkl", SUFFIX):
        raise OptionError(
            f"{parsed.out.name} is no .pth file.",
            "Name the output something.pth, something.pkl for ArSSR, or something.onnx for a graph.",
        )
    write = make_graph if parsed.out.suffix == SUFFIX else export_checkpoint
    write(Model.load(parsed.model), parsed.out)
    print(f"Written to {parsed.out}")


def _calibrated(model, device: str):
    from ..apply.calibration import calibrate

    with Progress(quiet=False) as progress:
        return calibrate(model, device=device, progress=progress)

"""The commands `cbct-superres apply` and `info`, and the arguments that they share with the batch command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from .. import NOTICE
from ..apply.factors import chosen_because
from ..apply.plan import make_plan
from ..apply.sharing import Sharing
from ..apply.speed import record_speed
from ..apply.suited_model import with_suited_model
from ..apply.survey import workers_for
from ..core.errors import OptionError
from ..core.gpus import count_gpus
from ..core.memory import available_memory, readable
from ..core.options import (
    BACK_PROJECTION,
    BONE,
    CUBIC,
    ENGINES,
    ENSEMBLES,
    PLANES,
    PRECISIONS,
    USUAL_PASSES,
    WARNING,
    WIDEST,
    Options,
    marks_bone,
)
from ..core.processes import usable_cores
from ..core.progress import duration_text
from ..io.volume import Volume
from ..jobs.cluster import LOCAL, LOCAL_PREFIX, Cluster, check_device
from ..models.card import read_card
from ..models.folder import default_model, find_model
from ..scan.window import PRESETS, Window
from .terminal import Progress, add_command, blank_value

SHARE_OF_MEMORY = 0.85  # of what is free, that the processes of a run or a batch may take together


def add_apply_commands(commands) -> None:
    """Declare `apply` and `info`."""
    apply = add_command(commands, "apply", "super-resolve a scan", run_apply)
    apply.add_argument("scan", help="NRRD, NHDR, MHA, NIfTI, a DICOM folder, or a folder of 16-bit TIFF or PNG slices")
    apply.add_argument("output", help="file to write: .nrrd, .mha, .nii or .nii.gz; a report is written beside it")
    add_apply_arguments(apply)
    add_dicom_arguments(apply)
    apply.add_argument(
        "--cluster",
        metavar="PLACE",
        help="let Dask workers compute the parts of the volume (extra: cbct-superres[cluster]): local, local:N, "
        "slurm, pbs, lsf, sge, FILE.yaml with options of dask-jobqueue, or tcp://HOST:PORT of a scheduler",
    )
    apply.add_argument("--quiet", action="store_true", help="print nothing but errors")

    info = add_command(commands, "info", "what a scan is and what a run on it would give and need", run_info)
    info.add_argument("scan")
    add_apply_arguments(info)
    info.add_argument("--json", action="store_true", help="print JSON")


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Add everything that decides how a scan is super-resolved; `options_from_arguments` reads it back."""
    what = parser.add_argument_group("model and grey values")
    what.add_argument(
        "--model",
        metavar="M",
        help="name or file of a model (default: the scan chooses: light, or what the size asked for or its blur needs)",
    )
    window = what.add_mutually_exclusive_group()
    window.add_argument(
        "--window",
        nargs="+",
        action=WindowAction,
        metavar=("LO", "HI"),
        help='normalisation range: two grey values, "auto" or "model" (default: the model\'s if the scan fits it)',
    )
    presets = "; ".join(f"{name}: {preset.title}" for name, preset in PRESETS.items())
    window.add_argument("--preset", choices=PRESETS, metavar="NAME", help=f"normalisation range by name ({presets})")
    what.add_argument(
        "--blank", type=blank_value, default="auto", metavar="auto|none|VALUE", help="what is blank region"
    )
    what.add_argument("--smooth", type=float, metavar="SIGMA", help="mild Gaussian before the network, in pixels")

    where = parser.add_argument_group("result")
    where.add_argument("--planes", choices=PLANES, default="axial", help="enlarge in the slice plane or in all axes")
    where.add_argument(
        "--scale",
        type=_scale,
        metavar="S",
        help="factor, for models of any real scale; or I J K along each axis; 1: same size, less noise",
    )
    where.add_argument(
        "--output-spacing",
        type=_spacing,
        metavar="MM",
        help=f'voxel size of the result in mm; or X Y Z along each axis; or "{CUBIC}", as fine as the finest axis',
    )
    where.add_argument(
        "--roi", type=int, nargs=6, metavar=("I0", "I1", "J0", "J1", "K0", "K1"), help="box of input voxels, half-open"
    )
    where.add_argument("--dtype", metavar="TYPE", help="type of the output, for instance int16 (default: the input's)")
    where.add_argument("--compress", action="store_true", help="compress the output file")

    scanner = parser.add_argument_group("scanner")
    scanner.add_argument(
        "--scanner-blur",
        type=_blur,
        metavar="auto|MM",
        help="blur of the scanner, full width at half maximum in mm, or I,J,K along each axis (default: auto, "
        "estimated from the scan)",
    )
    scanner.add_argument(
        "--sharpness",
        type=float,
        default=100.0,
        metavar="PERCENT",
        help="how far to go from interpolation, 0, towards the model's answer, 100 (default)",
    )

    scanner.add_argument(
        "--back-projection",
        choices=BACK_PROJECTION,
        default="auto",
        help="correct what contradicts the scan by more than its noise (default: auto, where the blur is sure)",
    )

    how = parser.add_argument_group("computing")
    how.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N; or several that share a volume: cuda:0,1,3 or cuda:all, or cpu,cpu for two "
        "processes with half of the cores each",
    )
    how.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="arithmetic of the network; auto takes 16 bits where a part of the scan shows that nothing is lost",
    )
    how.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="what computes the network (default: auto, the one that `cbct-superres engines` found to be the fastest "
        "here, else PyTorch); others compute on the CPU",
    )
    how.add_argument(
        "--ensemble",
        type=int,
        choices=ENSEMBLES,
        default=1,
        metavar="N",
        help="average the results over 1, 2, 4 or 8 flips and rotations: less noise, N times the time",
    )
    how.add_argument(
        "--uncertainty",
        type=int,
        nargs="?",
        const=USUAL_PASSES,
        default=0,
        metavar="N",
        help="also measure how sure the result is: the error bars of a model that tells its own (of N draws, "
        f"{USUAL_PASSES} if no number is given, where it draws), or by N more passes where the model disagrees with "
        "itself; written beside the output",
    )
    how.add_argument(
        "--warning-above",
        type=_warning_above,
        default=WARNING,
        metavar="SHARE",
        help="predictive deviation, as a share of the window, above which the warning mask of a model with error bars "
        f"marks voxels (default: {WARNING}); {WIDEST}: where the widest twentieth of this scan's are; {BONE}, or "
        f"{BONE}=GREY: the twentieth likeliest to lie on the other side of bone's threshold, Otsu's or a grey value",
    )
    how.add_argument(
        "--disagreement-above",
        type=float,
        metavar="GREY",
        help="also write a mask of the voxels whose model disagreement is larger than so many grey values",
    )
    how.add_argument("--tile", type=int, metavar="N", help="edge of a tile in input voxels; 0 for whole slices")

    scan = parser.add_argument_group("reading")
    scan.add_argument(
        "--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help="voxel spacing in mm, where none is recorded"
    )
    scan.add_argument("--override", action="store_true", help="believe --spacing where the file records another one")
    scan.add_argument("--series", metavar="UID", help="series to read from a DICOM folder that holds several")


def add_dicom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what makes results DICOM; `dicom_from_arguments` reads it back."""
    dicom = parser.add_argument_group("DICOM")
    dicom.add_argument("--format", choices=("dicom",), help="make each output a folder with a derived DICOM series")
    dicom.add_argument("--patient-name", metavar="NAME", help="where the scan does not tell it")
    dicom.add_argument("--patient-id", metavar="ID", help="where the scan does not tell it")


def dicom_from_arguments(arguments: argparse.Namespace) -> dict:
    """The arguments `as_dicom`, `patient_name` and `patient_id` of `apply_to_file`.

    Raises
    ------
    OptionError
        If a patient is named for a result that holds none.
    """
    if arguments.format is None and (arguments.patient_name or arguments.patient_id):
        raise OptionError("Only DICOM holds a patient's name and ID.", "Add --format dicom, or leave them out.")
    patient = {"patient_name": arguments.patient_name, "patient_id": arguments.patient_id}
    return {"as_dicom": arguments.format == "dicom", **patient}


def options_from_arguments(arguments: argparse.Namespace) -> Options:
    """The options of a parsed command line.

    Raises
    ------
    OptionError
        If a value makes no sense.
    """
    values = {f.name: getattr(arguments, f.name) for f in fields(Options) if hasattr(arguments, f.name)}
    if isinstance(arguments.window, tuple):
        Window(*arguments.window)  # refuses what is no range
    values["window"] = arguments.preset or arguments.window
    values["roi"] = box_from_numbers(arguments.roi)
    return Options(**values)


class WindowAction(argparse.Action):
    """Accepts `auto`, `model`, or two numbers."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        if len(values) == 1 and values[0] in ("auto", "model"):
            setattr(namespace, self.dest, values[0])
            return
        try:
            low, high = map(float, values)
        except ValueError:
            parser.error('--window takes two grey values, "auto" or "model"')
        setattr(namespace, self.dest, (low, high))


def _warning_above(text: str) -> float | str:
    try:
        return text if text == WIDEST or marks_bone(text) else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a share of the window nor {WIDEST}, {BONE} or {BONE}=GREY"
        ) from None


def _blur(text: str) -> float | tuple[float, ...] | None:
    if text == "auto":
        return None
    return _one_or_three(text, 'neither "auto", a width in mm nor three of them, as in .3,.3,.4')


def _scale(text: str) -> float | tuple[float, ...]:
    return _one_or_three(text, "neither a factor nor three of them, as in 1,1,2.2")


def _spacing(text: str) -> float | tuple[float, ...] | str:
    if text == CUBIC:
        return text
    return _one_or_three(text, f'neither a size in mm, nor three of them, as in .2,.2,.3, nor "{CUBIC}"')


def _one_or_three(text: str, otherwise: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is {otherwise}")
    return numbers[0] if len(numbers) == 1 else numbers


def box_from_numbers(numbers: list[int] | None) -> tuple | None:
    """Ranges along (i, j, k) from six numbers.

    Raises
    ------
    OptionError
        If one is empty.
    """
    if numbers is None:
        return None
    box = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if any(start < 0 or start >= stop for start, stop in box):
        raise OptionError(f"The box {numbers} is empty.", "Give I0 I1 J0 J1 K0 K1 with each first below its second.")
    return box


def run_apply(parsed: argparse.Namespace) -> None:
    """`cbct-superres apply`"""
    from ..apply.file import apply_to_file

    options, dicom = options_from_arguments(parsed), dicom_from_arguments(parsed)
    with Progress(parsed.quiet) as progress, _sharing(parsed, options, progress) as sharing:
        report = apply_to_file(
            parsed.scan,
            parsed.output,
            parsed.model,
            options,
            progress,
            compress=parsed.compress,
            spacing=parsed.spacing,
            series=parsed.series,
            override=parsed.override,
            sharing=sharing,
            **dicom,
        )
    record_speed(report)
    if not parsed.quiet:
        print(result_text(report, parsed.output))


@contextmanager
def _sharing(parsed: argparse.Namespace, options: Options, progress: Progress) -> Iterator[Sharing | None]:
    """Who computes the parts of the volume; None for this process alone.

    Raises
    ------
    SuperResError
        If the cluster is not there, or the device is none of its own.
    """
    from ..jobs.shared_volume import ClusterSharing, DeviceSharing

    if not parsed.cluster:
        yield DeviceSharing(options, parsed.output) if len(options.devices) > 1 else None
        return
    check_device(options.device)
    place = parsed.cluster
    if place == LOCAL:
        place = f"{LOCAL_PREFIX}{_local_workers(parsed, options, progress)}"
    with Cluster(place) as cluster:
        progress.say(f"Dashboard: {cluster.dashboard}")
        yield ClusterSharing(cluster, options, parsed.output, progress.say)


def _local_workers(parsed: argparse.Namespace, options: Options, progress: Progress) -> int:
    """One a GPU, or else a core; no more than memory carries."""
    most, free = (count_gpus() if options.device != "cpu" else 0) or usable_cores(), available_memory()
    card = read_card(find_model(parsed.model)) if parsed.model else None
    found = workers_for(Path(parsed.scan), card, options, most, SHARE_OF_MEMORY * free)
    if found is None:  # the run will tell what the header does not
        return most
    if found < most:
        progress.say(f"Of {most} workers {found} fit into memory, of which {readable(free)} are free.")
    return found


def result_text(report: dict, output: str) -> str:
    """What a user wants to know after a run."""
    run = report["super_resolution"]
    parts = f" in {run['parts']['count']} parts" if "parts" in run else ""
    lines = [
        f"Model {run['model']} by {run['engine']} on {run['device']}{parts}, {run['precision']}, "
        f"{run['seconds']['computing']:.1f} s.",
        run["window_reason"],
        run["blank"]["rule"],
        *run["scanner_text"],
        run["conditions"]["reason"],
        *(f"Warning: {text}" for text in run["warnings"]),
        *run["notes"],
        *(f"{figure['label']}: {figure['text']}" for figure in run["quality"]["figures"]),
        *(f"Warning: {text}" for text in run["quality"]["warnings"]),
        f"Result: {' x '.join(map(str, run['output_size']))} voxels of "
        f"{' x '.join(f'{s:.4g}' for s in run['output_spacing_mm'])} mm in {output}",
        *(f"{words.capitalize()} in {path}" for words, path in report.get("beside", {}).items()),
        *([dicom_text(report["dicom"])] if "dicom" in report else []),
        NOTICE,
    ]
    return "\n".join(lines)


def dicom_text(written: dict) -> str:
    """What a user wants to know of a DICOM series that was written."""
    steps = "" if written["step"] == 1 else f"; grey values are rounded to steps of {written['step']:.4g}"
    return f"DICOM series {written['series']} of {written['slices']} slices{steps}."


def run_info(parsed: argparse.Namespace) -> None:
    """`cbct-superres info`"""
    reading = {"spacing": parsed.spacing, "series": parsed.series, "override": parsed.override}
    facts = facts_of_scan(parsed.scan, parsed.model, options_from_arguments(parsed), **reading)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if parsed.json else facts_text(facts))


def facts_of_scan(
    path: str | Path,
    model: str | None = None,
    options: Options = Options(),
    spacing: Sequence[float] | None = None,
    series: str | None = None,
    override: bool = False,
) -> dict:
    """Look at a scan without running a network; ready for JSON.

    Raises
    ------
    SuperResError
        As a run would.
    """
    volume = Volume.read(path, spacing=spacing, series=series, override=override)
    card = read_card(find_model(model)) if model else default_model(options, volume.spacing)
    plan = make_plan(volume.grid, volume.voxels.dtype, card, options).with_scan(volume, is_checked=True)
    scanner_reason = ""
    if not model:
        plan, scanner_reason = with_suited_model(plan, volume)
    return {
        "scan": str(path),
        "size": list(volume.grid.size),
        "spacing_mm": list(volume.spacing),
        "type": str(volume.voxels.dtype),
        "bytes": volume.voxels.nbytes,
        "range": [float(volume.voxels.min()), float(volume.voxels.max())],
        "blank": {"share": plan.blanks.share, "rule": plan.blanks.rule},
        "window": [plan.choice.window.lo, plan.choice.window.hi],
        "window_reason": plan.choice.reason,
        "scanner": plan.scanner.to_json(),
        "scanner_text": plan.scanner.sentences(plan.choice.window.width),
        "conditions": plan.conditions.to_json(),
        "warnings": list(plan.warnings),
        "model": plan.card.line,
        "model_reason": "" if model else scanner_reason or chosen_because(card, options, volume.spacing),
        "output_size": list(plan.grid.size),
        "output_spacing_mm": list(plan.grid.spacing),
        "output_type": str(plan.dtype),
        "output_bytes": plan.output_bytes,
        "memory_bytes": plan.memory_bytes,
        "workers": plan.workers,
        "worker_bytes": plan.worker_bytes,
        "memory_free_bytes": available_memory(),
        "seconds": plan.seconds,
        "seconds_measured": plan.seconds_are_measured,
    }


def facts_text(facts: dict) -> str:
    """The facts for people."""
    source = "from earlier runs here" if facts["seconds_measured"] else "a guess until the first run here"
    each = f", of which each of {facts['workers']} processes takes {readable(facts['worker_bytes'])}"
    each = each if facts["workers"] > 1 else ""
    lines = [
        ("Scan", facts["scan"]),
        ("Size", _grid_text(facts["size"], facts["spacing_mm"], facts["type"], facts["bytes"])),
        ("Grey values", "{:g} to {:g}".format(*facts["range"])),
        ("Blank", f"{100 * facts['blank']['share']:.1f} %. {facts['blank']['rule']}"),
        ("Window", facts["window_reason"]),
        *(("Scanner", text) for text in (*facts["scanner_text"], facts["conditions"]["reason"])),
        *(("Warning", text) for text in facts["warnings"]),
        ("Model", facts["model"]),
        *([("", facts["model_reason"])] if facts["model_reason"] else []),
        (
            "Result",
            _grid_text(facts["output_size"], facts["output_spacing_mm"], facts["output_type"], facts["output_bytes"]),
        ),
        ("Memory", f"about {readable(facts['memory_bytes'])}{each}; {readable(facts['memory_free_bytes'])} are free"),
        ("Time", f"about {duration_text(facts['seconds'])} ({source})"),
    ]
    return "\n".join(f"{name and name + ':':<13}{text}" for name, text in lines)


def _grid_text(size: Sequence[int], spacing: Sequence[float], dtype: str, nbytes: int) -> str:
    voxels = " x ".join(map(str, size))
    return f"{voxels} voxels of {' x '.join(f'{s:.4g}' for s in spacing)} mm, {dtype}, {readable(nbytes)}"

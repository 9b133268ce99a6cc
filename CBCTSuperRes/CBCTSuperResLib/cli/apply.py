"""The commands `cbct-superres apply` and `info`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import NOTICE
from ..apply.factors import chosen_because
from ..apply.plan import make_plan
from ..apply.sharing import Sharing
from ..apply.speed import record_speed
from ..apply.suited_model import with_suited_model
from ..apply.survey import workers_for
from ..core.gpus import count_gpus
from ..core.memory import available_memory, readable
from ..core.options import Options
from ..core.processes import usable_cores
from ..core.progress import duration_text
from ..io.volume import Volume
from ..jobs.cluster import LOCAL, LOCAL_PREFIX, Cluster, check_device
from ..models.card import read_card
from ..models.folder import default_model, find_model
from .apply_arguments import add_apply_arguments, add_dicom_arguments, dicom_from_arguments, options_from_arguments
from .terminal import Progress, add_command

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

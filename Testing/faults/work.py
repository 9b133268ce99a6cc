"""The five kinds of work that are disturbed, small enough for a second, and what must hold of them at any moment."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from CBCTSuperResLib.acquisition.phantom import jaw_scans
from CBCTSuperResLib.batch import main as batch_command
from CBCTSuperResLib.cli import main as command
from CBCTSuperResLib.core.errors import SuperResError
from CBCTSuperResLib.io.read import probe
from CBCTSuperResLib.io.volume_files import read_header, read_voxels
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from scans import make_scan
from tiny_runs import tiny_json

STEPS = 4


@dataclass(frozen=True)
class Work:
    """Something that the command does.

    Attributes
    ----------
    name : str
    arguments : list of str
        Of the command.
    command : callable
        `cbct-superres`, or the batch script.
    faults : callable
        Sentences about what must not be, now.
    is_done : callable
        Whether all of it is there.
    """

    name: str
    arguments: list[str]
    faults: Callable[[], list[str]]
    is_done: Callable[[], bool]
    command: Callable[[list[str]], int] = command


def all_work(folder: Path) -> list[Work]:
    """The work, in a folder of its own; what it needs is made first."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = tiny_model(folder / "tiny.safetensors")
    return [apply(folder, model), train(folder), prepare(folder), export(folder), convert(folder)]


def tiny_model(path: Path) -> Path:
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=4, gc=4, nb=4)
    with torch.no_grad():  # the usual first weights are so small that the output would be constant
        for weight in network.parameters():
            weight.mul_(5)
    return Model(network, ModelCard(name=path.stem, title="Tiny", spec=network.describe(), window=(0.0, 4000.0))).save(
        path
    )


def apply(folder: Path, model: Path) -> Work:
    scan, result = make_scan((24, 48, 48)).write(folder / "scan.nrrd"), folder / "result.nrrd"
    arguments = ["apply", str(scan), str(result), "--model", str(model), "--device", "cpu", "--quiet"]
    return Work("apply", arguments, lambda: faults_of_volume(result), result.exists)


def convert(folder: Path) -> Work:
    """A result as a DICOM series: a folder that appears whole."""
    scan, result = make_scan((16, 24, 24)).write(folder / "small.nrrd"), folder / "series"
    arguments = ["apply", str(scan), str(result), "--model", str(folder / "tiny.safetensors"), "--device", "cpu"]
    arguments += ["--format", "dicom", "--patient-name", "A", "--patient-id", "1", "--quiet"]

    def faults() -> list[str]:
        if not result.exists():
            return []
        try:
            slices = probe(result).size[2]
        except SuperResError as error:
            return [f"half a series: {error}"]
        return [] if slices == 16 else [f"{slices} of 16 slices"]

    return Work("apply to DICOM", arguments, faults, result.exists)


def batch(folder: Path) -> Work:
    """Two scans, each by a worker of its own."""
    scans, results = folder / "scans", folder / "results"
    scans.mkdir()
    for name in ("a", "b"):
        make_scan((12, 40, 40)).write(scans / f"{name}.nrrd")
    arguments = ["--input", str(scans), "--output-folder", str(results), "--skip-existing"]
    arguments += ["--model", str(folder / "tiny.safetensors"), "--device", "cpu"]

    def faults() -> list[str]:
        return [f"{path.name}: {text}" for path in results.glob("*.nrrd") for text in faults_of_volume(path)]

    return Work("batch", arguments, faults, lambda: len(list(results.glob("*.json"))) == 2, batch_command)


def train(folder: Path) -> Work:
    options = folder / "train.json"
    options.write_text(json.dumps(tiny_json(folder, niter=STEPS, val_freq=1000)), encoding="utf-8")
    run = folder / "experiments" / "tiny"
    arguments = ["train", "-opt", str(options), "--device", "cpu", "--quiet", "--resume", "auto"]
    return Work("train", arguments, lambda: faults_of_run(run), lambda: _step(run) == STEPS)


def prepare(folder: Path) -> Work:
    fine, coarse = jaw_scans((10, 96, 96), 0.2, seed=5)
    low, high, out = coarse.write(folder / "low.nrrd"), fine.write(folder / "high.nrrd"), folder / "pairs"
    arguments = [
        "prepare",
        "--lr",
        str(low),
        "--hr",
        str(high),
        "--out",
        str(out),
        "--min-size",
        "16",
        "--min-slices",
        "1",
    ]
    is_done = lambda: out.is_dir() and any(out.iterdir())  # noqa: E731

    def faults() -> list[str]:
        return ["pairs without a report"] if is_done() and not list(out.glob("*.json")) else []

    return Work("prepare", arguments, faults, is_done)


def export(folder: Path) -> Work:
    """Of a run that is made first, in a process of its own."""
    other = folder / "trained"
    other.mkdir()
    options = other / "train.json"
    options.write_text(json.dumps(tiny_json(other, niter=2)), encoding="utf-8")
    pid, code = started(["train", "-opt", str(options), "--device", "cpu", "--quiet"]), 0
    code = os.waitpid(pid, 0)[1]
    assert code == 0, f"the run to export was not made ({code})"
    out = folder / "exported.safetensors"
    arguments = [
        "export",
        str(other / "experiments" / "tiny"),
        "--out",
        str(out),
        "--which",
        "latest",
        "--device",
        "cpu",
    ]
    return Work("export", arguments, lambda: faults_of_model(out), out.exists)


def started(
    arguments: list[str],
    before: Callable[[], None] = lambda: None,
    log: Path | None = None,
    command: Callable[[list[str]], int] = command,
) -> int:
    """The command in a forked process, which has imported everything already; returns its number."""
    torch.optim.Adam([torch.zeros(1)])
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    torch.set_num_threads(1)  # the threads of the process that was forked are not there
    code = 1
    try:
        os.setpgid(0, 0)
        output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        before()
        code = command(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def killed_after(arguments: list[str], seconds: float, command: Callable[[list[str]], int] = command) -> bool:
    """Whether a command was killed in the middle, and had not ended before."""
    pid = started(arguments, command=command)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def run_whole(
    arguments: list[str],
    before: Callable[[], None] = lambda: None,
    log: Path | None = None,
    command: Callable[[list[str]], int] = command,
) -> int:
    """The exit code of a command; 255 if a signal ended it."""
    status = os.waitpid(started(arguments, before, log, command), 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 255


def faults_of_volume(path: Path) -> list[str]:
    """What is wrong with a result that is there."""
    report = Path(f"{path}.json")
    if not path.exists():
        return []
    if not report.exists():
        return ["a result without a report"]
    try:
        json.loads(report.read_text(encoding="utf-8"))
        read_voxels(read_header(path))
        return []
    except (SuperResError, ValueError) as error:
        return [f"a result that cannot be read: {error}"]


def faults_of_model(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        Model.load(path).verify()
    except SuperResError as error:
        return [f"a model that cannot be loaded: {error}"]
    return []


def faults_of_run(run: Path) -> list[str]:
    """What is wrong with a run that was disturbed."""
    found = []
    for state in (run / "training_state").glob("*.state"):
        try:
            read_checkpoint(state)
        except SuperResError as error:
            found.append(f"{state.name}: {error}")
    for model in (run / "models").glob("*.safetensors"):
        found += [f"{model.name}: {text}" for text in faults_of_model(model)]
    curves = run / "curves.csv"
    if curves.exists():
        with curves.open(encoding="utf-8", newline="") as stream:
            widths = {len(row) for row in list(csv.reader(stream))[:-1]}
        found += [f"rows of {sorted(widths)} columns in curves.csv"] if len(widths) > 1 else []
    return found


def _step(run: Path) -> int:
    steps = [int(path.stem) for path in (run / "training_state").glob("*.state") if path.stem.isdigit()]
    return max(steps, default=0)

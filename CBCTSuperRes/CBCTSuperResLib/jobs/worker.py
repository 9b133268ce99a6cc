"""The process that computes: `python -m CBCTSuperResLib.jobs.worker job.json`.

A job is a JSON object with

- ``kind`` and what belongs to it:
  "apply" with ``input``, ``output``, ``model``, ``options`` (see `Options`) and, optionally, ``compress``,
  ``spacing``, ``series``, ``override``, ``as_dicom``, ``patient_name``, ``patient_id``, ``threads`` (to compute with),
  ``picture`` (see `write_picture`);
  "part" with ``scan``, ``plan``, ``plan_sha256``, ``part``, ``output``, ``model``, ``device``, ``threads``, see
  `compute_part`;
  "difference" with ``input``, ``result``, ``output`` (see `difference_to_file`);
  "evaluate" with ``input``, ``result``, ``reference``, ``output``, ``report`` (a folder), ``names``, see
  `evaluate_result`; "preview" with ``model`` and, optionally, ``idle_s`` (see `preview_server`); "import" with
  ``path`` (weights of another program) and ``models`` (a folder), see `import_`; "verify" with ``model``, see
  `verify_model`; "engines" with ``model``, see `engines`;
  "train" with ``options`` (JSON of `TrainingOptions`, or a path), ``resume`` (None, "auto", or a checkpoint),
  ``accept_changes``, ``device``; "plan" with ``options``, ``device``, ``measure``; "pace" with ``options``, those of
  several trainings; "check" with ``options``;
  "prepare" with ``lr``, ``hr`` (scans, or folders of scans), ``out``, ``options`` (see `PrepareOptions`);
  "dicom" with ``result``, ``report`` (its account of the run), ``out`` and, optionally, ``scan``, ``series``,
  ``patient_name``, ``patient_id``, see `export_dicom`; "save" with ``result``, ``report`` (all of it), ``out`` and,
  optionally, ``scan``, see `save_result`;
  "export" with ``run``, ``out``, ``which`` ("best", "latest" or a step), ``texts`` (entries of the card);
  "survey" with ``inputs``, ``model`` and ``options``, see `survey`;
  "look" with ``input``, ``model`` and ``options``, see `look_at`;
  "serve" with nothing more: a process that stays and does the jobs that it is given, see `PoolWorker`;
- ``events``: a file to which this process appends one JSON object a line (see `EventWriter`), each with the key
  ``event``: "started" (pid, group, host), "progress" (fraction, message, remaining_s), "warning" (message), "follow"
  (path of a file in which more is told, as a training does in its run's folder) and, at the end, "done" (report) or
  "error" (what, advice, exit_code, detail);
- ``cancel``: a file whose appearance means that the user asked to stop;
- ``heartbeat``: a file that is touched every second while this process is alive;
- ``alive``: a file that this process keeps locked while it lives;
- ``parent``: see `ParentLock`; when the parent has died, this process stops within ``grace_s`` seconds, removing the
  folder ``folder``. If the file ``detached`` is there by then, or there was no parent from the beginning, it goes on.

Whatever else is printed, by torch for instance, goes to the standard output: the job's log.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..apply.engines import set_cpu_threads
from ..apply.file import READ, apply_to_file, save_result
from ..apply.speed import record_speed
from ..core.atomic import FileLock, no_locks_warning
from ..core.crash_note import keep_note
from ..core.errors import Cancelled, OptionError, SuperResError, explained
from ..core.events import EventWriter
from ..core.memory import forget_peak_memory, less_memory
from ..core.options import Options
from ..core.packages import require_packages
from ..core.processes import ParentWatch, own_group
from ..io.volume import Volume
from ..models.card import read_card
from .job import CRASH_NOTE, GRACE_S
from .pool import given_file

if TYPE_CHECKING:
    from ..apply.sharing import Sharing
    from ..models.model import Model

WATCH_INTERVAL_S = 1.0
LOOK_INTERVAL_S = 0.02
SETTLED = 50  # steps after the warm-up, from which on a training's pace is worth remembering

Stop = Callable[[], bool]


def apply(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Super-resolve a file; the report is that of `apply_to_file`."""
    if job.get("threads"):
        set_cpu_threads(job["threads"])
    options = Options.from_json(job.get("options", {}))
    report = apply_to_file(
        job["input"],
        job["output"],
        job.get("model"),
        options,
        events.progress,
        stop,
        compress=job.get("compress", False),
        spacing=job.get("spacing"),
        series=job.get("series"),
        override=job.get("override", False),
        as_dicom=job.get("as_dicom", False),
        patient_name=job.get("patient_name"),
        patient_id=job.get("patient_id"),
        sharing=_sharing(options, job["output"]),
        **_picture(job.get("picture")),
    )
    if not job.get("threads"):  # alone on the machine
        record_speed(report)
    return report


def _sharing(options: Options, output: str) -> Sharing | None:
    """Who computes the parts of a volume for several devices; None for one."""
    if len(options.devices) < 2:
        return None
    from .parts import DeviceSharing

    return DeviceSharing(options, output)


def part(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Compute a part of a volume that several devices share; the report has nothing in it."""
    from ..apply.parts import compute_part
    from ..models.model import Model

    if job["threads"]:
        set_cpu_threads(job["threads"])
    model = job["model"] if isinstance(job["model"], Model) else Model.load(job["model"])
    box = tuple(tuple(ends) for ends in job["part"])
    scan, plan_file, target = Path(job["scan"]), Path(job["plan"]), Path(job["output"])
    compute_part(scan, plan_file, job["plan_sha256"], box, target, model, job["device"], events.progress, stop)
    return {}


def _picture(path: str | None) -> dict:
    """What `apply_to_file` is given to draw the scan beside its result."""
    if path is None:
        return {}
    from ..apply.before_after import write_picture

    return {"seen": lambda scan, result: write_picture(scan, result, Path(path))}


def survey(job: dict, events: EventWriter, stop: Stop) -> dict:
    """What the super-resolution of scans will take, from their headers.

    Returns
    -------
    dict
        "memory_bytes" and "seconds" of each of ``inputs``; None where the header does not tell.
    """
    from ..apply.survey import needs_of

    card, options = job["model"] and read_card(job["model"]), Options.from_json(job.get("options", {}))
    needs = []
    for number, path in enumerate(job["inputs"]):
        if stop():
            raise Cancelled
        events.progress(number / len(job["inputs"]), "Looking at the scans")
        needs.append(needs_of(Path(path), card, options))
    return {"memory_bytes": [need and need[0] for need in needs], "seconds": [need and need[1] for need in needs]}


def look(job: dict, events: EventWriter, stop: Stop) -> dict:
    """What a scan tells of its scanner, as "scanner", see `look_at`."""
    from ..apply.scanner_facts import look_at

    events.progress(0.0, "Looking at the scan")
    return {"scanner": look_at(job["input"], read_card(job["model"]), Options.from_json(job["options"]))}


def difference(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Subtract the interpolated input from a result; the report is that of `difference_to_file`."""
    require_packages(needs_torch=False)
    from ..apply.difference import difference_to_file

    return difference_to_file(job["input"], job["result"], job["output"], events.progress, stop)


def dicom(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Write a result that is there as a DICOM series; the report is that of `write_dicom`."""
    require_packages(needs_torch=False)
    from ..apply.dicom_result import export_dicom

    result = replace(Volume.read(job["result"]), report=job["report"])
    known = {name: job.get(name) for name in ("series", "patient_name", "patient_id")}
    return export_dicom(result, job["out"], job.get("scan"), progress=events.progress, cancelled=stop, **known)


def save(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Write a result that is there into a file; the report has "report", the file beside it that tells of the run."""
    result = Volume.read(job["result"])
    return {"report": str(save_result(result, job["out"], job["report"], job.get("scan"), events.progress))}


def evaluate(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Measure a result against a finer scan; the report is that of `evaluate_result`."""
    require_packages(needs_torch=False)
    from ..evaluate.files import evaluate_result

    def told(fraction: float, message: str) -> None:
        if stop():
            raise Cancelled
        events.progress(fraction, message)

    paths = [Path(job[name]) for name in ("input", "result", "reference", "output", "report")]
    return evaluate_result(*paths, job["names"], told)


def preview(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Answer requests for previews until nobody asks any more."""
    from .preview_server import IDLE_S, PreviewServer

    server = PreviewServer(Path(job["folder"]), events.send, stop, job.get("idle_s", IDLE_S))
    return server.serve(job["model"])


def import_(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Read another program's weights, measure how far the network looks, and write a model file.

    Returns
    -------
    dict
        "model", the file that was written; "name" of the model; "warnings", what was noticed in the weights.
    """
    from ..apply.calibration import calibrate
    from ..importers import import_checkpoint
    from ..models.folder import SUFFIX, adopt_model

    def told(fraction: float, message: str) -> None:
        if stop():
            raise Cancelled
        events.progress(fraction, message)

    told(0.0, "Reading the weights")
    model = import_checkpoint(job["path"])
    if not model.spec.can_be_cut:  # otherwise the network knows how far it can look, and measuring blocks takes long
        told(0.1, "Measuring how far the network looks")
        model = calibrate(model, progress=lambda fraction, message: told(0.1 + 0.9 * fraction, message))
    with tempfile.TemporaryDirectory() as scratch:
        card = adopt_model(model.save(Path(scratch) / f"{model.card.name}{SUFFIX}"), job["models"])
    return {"model": str(card.path), "name": card.name, "warnings": list(card.training["notes"])}


def verify(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Check a model's file; the report has "checks"."""
    from ..apply.engines.verify import verify_model

    return {"checks": verify_model(job["model"])}


def engines(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Measure how fast each engine computes a model here, and remember it; "engines" are the facts of `Measured`."""
    from ..apply.engines.choice import keep_graph
    from ..apply.engines.speed_records import record_engines
    from ..apply.engines.speed_test import measure_engines
    from ..models.model import Model

    model = Model.load(job["model"])
    keep_graph(model)
    found = measure_engines(model, events.progress, stop)
    record_engines(model.card, found)
    return {"engines": [asdict(measured) for measured in found]}


def train(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Train until it is done, or until it was asked to stop and its checkpoint is saved; how fast it was is remembered.

    Returns
    -------
    dict
        "folder", "step", "results" as of `RunResult`.

    Raises
    ------
    Cancelled
        If it was asked to stop; the run can be resumed.
    """
    from ..train.observer import Observer, RunFacts
    from ..train.options_file import read_options
    from ..train.pace import Pace, known_pace, record_pace
    from ..train.run import train as run_training
    from ..train.run_folder import EVENTS

    class Watching(Observer):
        step_number, seconds_per_step = 0, 0.0

        def started(self, run: RunFacts) -> None:
            events.send("follow", path=run.folder / EVENTS)

        def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
            self.step_number, self.seconds_per_step = number, seconds_per_step

    events.progress(0.0, "Preparing the data")
    options, watching = read_options(job["options"]), Watching()
    try:
        result = run_training(
            options,
            resume=job.get("resume"),
            accept_changes=job.get("accept_changes", False),
            device=job.get("device"),
            observers=[watching],
            cancelled=stop,
        )
    except Cancelled as stopped:
        raise Cancelled(stopped.what, "Resume the run to go on from there.") from stopped
    finally:
        if watching.step_number > options.train.warmup_iters + SETTLED:
            before = known_pace(options) or Pace(watching.seconds_per_step)
            record_pace(options, replace(before, seconds_per_step=watching.seconds_per_step, is_measured=True))
    return {"folder": str(result.folder), "step": result.step, "results": dict(result.results)}


def plan(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Tell what a training will take: "text" for people, "seconds" in all, and the facts of `Plan` by their names."""
    from ..train.options_file import read_options
    from ..train.pace import record_pace
    from ..train.plan import plan as plan_training

    events.progress(0.0, "Planning")
    found = plan_training(read_options(job["options"]), job.get("device"), measure=job.get("measure", False))
    if job.get("measure") and found.measured:
        record_pace(found.options, found.pace)
    names = ("missing", "problems", "micro_batch", "memory_bytes", "free_bytes", "seconds_per_step", "seconds")
    facts = {name: getattr(found, name) for name in (*names, "measured")}
    return {"text": found.text(), "device": str(found.device), **facts}


def pace(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Measure and remember what a step of several trainings takes here; of those that take long, it is reckoned from
    how fast the others were.

    The report has "measured": how many were.
    """
    from ..train.options_file import read_options
    from ..train.pace import Pace, computes_on, record_pace
    from ..train.plan import LONG_S
    from ..train.plan import plan as plan_training

    measured, share_of_guess = 0, 1.0
    for number, values in enumerate(job["options"]):
        if stop():
            raise Cancelled
        events.progress(number / len(job["options"]), "Measuring how long a step takes here")
        options = read_options(values)
        guessed = plan_training(options, computes_on(options).partition(" ")[0])  # whatever was measured before
        if guessed.seconds_per_step / guessed.share > LONG_S / 2:
            found = Pace(guessed.seconds_per_step * share_of_guess, guessed.pace.warm_up_share, is_measured=False)
        else:
            found = plan_training(options, measure=True).pace
            share_of_guess = found.seconds_per_step / guessed.seconds_per_step
        record_pace(options, found)
        measured += found.is_measured
    return {"measured": measured}


def check(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Look at the data of a training, as its first step would; the report is that of `check_data`."""
    from ..train.data.inspect import check_data
    from ..train.options_file import read_options

    return check_data(read_options(job["options"]), events.progress, stop)


def prepare(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Register scans and write aligned pairs; the report is that of `prepare.prepare`."""
    from ..prepare import prepare as prepare_pairs
    from ..prepare.options import PrepareOptions

    options = PrepareOptions.from_json(job.get("options", {}))
    return prepare_pairs(job["lr"], job["hr"], job["out"], options, events.progress, stop)


def export(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Write the model file of a run; the report has "model", the file."""
    from ..train.export import export_run

    which, texts = job.get("which", "best"), job.get("texts")
    return {"model": str(export_run(job["run"], job["out"], which, texts=texts, progress=events.progress))}


KINDS: dict[str, Callable[[dict, EventWriter, Stop], dict]] = {
    "apply": apply,
    "part": part,
    "survey": survey,
    "look": look,
    "difference": difference,
    "dicom": dicom,
    "save": save,
    "evaluate": evaluate,
    "preview": preview,
    "import": import_,
    "verify": verify,
    "engines": engines,
    "train": train,
    "plan": plan,
    "pace": pace,
    "check": check,
    "prepare": prepare,
    "export": export,
}

# Kinds that ONNX Runtime will do for.
WITHOUT_TORCH = ("apply", "part", "survey", "dicom", "evaluate", "preview", "engines")
# Kinds that need no further package, or say themselves which are missing.
BARE = ("difference", "look", "plan", "save", "verify")


def run_job(job: dict, events: EventWriter, stop: Stop) -> int:
    """Do the job and tell its end as an event; the return value is the exit code."""
    events.send("started", pid=os.getpid(), group=own_group(), host=platform.node())
    if job.get("parent") and not job["parent"]["lock"]:
        events.send("warning", message=no_locks_warning(Path(job["events"]).parent))
    try:
        if job.get("kind") not in KINDS:
            raise OptionError(f"There is no job of the kind {job.get('kind')!r}.")
        if job["kind"] not in BARE:
            require_packages(needs_torch=job["kind"] not in WITHOUT_TORCH)
        report = KINDS[job["kind"]](job, events, stop)
        for warning in report.get("warnings", ()):
            events.send("warning", message=warning)
        events.send("done", report=report)
        return 0
    except Exception as error:
        told = explained(error, less_memory(job.get("kind")))
    events.send("error", what=told.what, advice=told.advice, exit_code=told.exit_code, detail=told.detail)
    return told.exit_code


def serve(folder: Path, watch: Watch, stop: Stop) -> None:
    """Do one job after another, see `PoolWorker`, and keep the model from one to the next, until it is stopped."""
    number, kept = 1, {}
    while not stop():
        if not given_file(folder, number).exists():
            time.sleep(LOOK_INTERVAL_S)
            continue
        given = json.loads(given_file(folder, number).read_text(encoding="utf-8"))
        job = json.loads(Path(given["job"]).read_text(encoding="utf-8"))
        number += 1
        forget_peak_memory()
        keep_note(Path(job["folder"]) / CRASH_NOTE)
        watch.also_shows(job["heartbeat"])
        run_job(
            {**job, "model": _kept_model(job.get("model"), kept)} if job.get("kind") in ("apply", "part") else job,
            EventWriter(job["events"], paced_from=READ),
            lambda cancel=job["cancel"]: stop() or os.path.exists(cancel),
        )


def _kept_model(path: str | None, kept: dict) -> Model | str | None:
    """The model of a file, loaded once; the path, if it is no model, so that the job tells why."""
    from ..models.model import Model

    try:
        status = Path(path).stat()
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in kept:
            kept.clear()
            kept[key] = Model.load(path)
        return kept[key]
    except (OSError, TypeError, SuperResError):
        return path


class StopRequest:
    """Whether this process should stop: asked by file, by signal, or because its parent has died."""

    def __init__(self, job: dict) -> None:
        self._file = job.get("cancel")
        self._stopped = False
        signal.signal(signal.SIGTERM, lambda *_: self.stop())

    def stop(self) -> None:
        self._stopped = True

    def __call__(self) -> bool:
        return self._stopped or bool(self._file and os.path.exists(self._file))


class Watch(threading.Thread):
    """Shows that this process lives, and ends it, folder included, when the parent has died."""

    def __init__(self, job: dict, stop: StopRequest) -> None:
        super().__init__(daemon=True)
        self._job, self._stop_request = job, stop
        self._parent = ParentWatch(job["parent"]) if job.get("parent") else None
        self._is_orphan = False
        self._heartbeats = [job["heartbeat"]] if "heartbeat" in job else []

    def also_shows(self, heartbeat: str) -> None:
        """Show in this file, too, that the process lives: of the job that it does at present."""
        self._heartbeats[1:] = [heartbeat]

    def run(self) -> None:
        pulse, end = 0, float("inf")
        while time.monotonic() < end:
            pulse += 1
            for heartbeat in list(self._heartbeats):
                with suppress(OSError):  # a disk that is away for a moment must not end a training of days
                    Path(heartbeat).write_text(str(pulse), encoding="ascii")
            if self._parent and self._parent.has_died():
                self._parent = None
                if not os.path.exists(self._job.get("detached", "")):
                    self._is_orphan, end = True, time.monotonic() + self._job.get("grace_s", GRACE_S)
                    self._stop_request.stop()
            time.sleep(WATCH_INTERVAL_S)
        self.clean_up()
        os._exit(Cancelled.exit_code)

    def clean_up(self) -> None:
        """Remove what the parent would have removed, if it has died."""
        if self._is_orphan and self._job.get("folder"):
            for folder in (self._job["folder"], *(Path(heartbeat).parent for heartbeat in self._heartbeats[1:])):
                shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    path = (arguments or sys.argv[1:])[0]
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    stop = StopRequest(job)
    if job.get("folder"):
        keep_note(Path(job["folder"]) / CRASH_NOTE)
    alive = FileLock(job["alive"]) if job.get("alive") else None
    for _ in range(100 if alive else 0):  # others look at the lock, for a moment each
        if alive.acquire():
            break
        time.sleep(0.05)
    if job.get("parent") and hasattr(os, "nice"):
        os.nice(5)  # whoever waits in front of a window comes first
    watch = Watch(job, stop)
    watch.start()
    try:
        if job.get("kind") == "serve":
            serve(Path(job["folder"]), watch, stop)
            return 0
        return run_job(job, EventWriter(job["events"], paced_from=READ), stop)
    finally:
        watch.clean_up()
        if alive:
            alive.release()


if __name__ == "__main__":
    sys.exit(main())

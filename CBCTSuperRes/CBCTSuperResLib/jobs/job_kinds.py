"""What a worker does, by the ``kind`` of its job; the job, a JSON object, also holds what belongs to that kind:

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
"look" with ``input``, ``model`` and ``options``, see `look_at`.

Each takes the job, where to tell of progress, and whether it should stop; it returns its report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..apply.engines import set_cpu_threads
from ..apply.file import apply_to_file, save_result
from ..apply.speed import record_speed
from ..core.errors import Cancelled
from ..core.events import EventWriter
from ..core.options import Options
from ..core.packages import require_packages
from ..core.progress import Report
from ..io.volume import Volume
from ..models.card import read_card

if TYPE_CHECKING:
    from ..apply.sharing import Sharing

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
    from .shared_volume import DeviceSharing

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


def _until_stopped(events: EventWriter, stop: Stop) -> Report:
    """Where to tell of progress, for work that can be ended nowhere else; it raises `Cancelled` once that is asked."""

    def tell(fraction: float, message: str) -> None:
        if stop():
            raise Cancelled
        events.progress(fraction, message)

    return tell


def survey(job: dict, events: EventWriter, stop: Stop) -> dict:
    """What the super-resolution of scans will take, from their headers.

    Returns
    -------
    dict
        "memory_bytes" and "seconds" of each of ``inputs``; None where the header does not tell.
    """
    from ..apply.survey import needs_of

    card, options = job["model"] and read_card(job["model"]), Options.from_json(job.get("options", {}))
    needs, told = [], _until_stopped(events, stop)
    for number, path in enumerate(job["inputs"]):
        told(number / len(job["inputs"]), "Looking at the scans")
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

    paths = [Path(job[name]) for name in ("input", "result", "reference", "output", "report")]
    return evaluate_result(*paths, job["names"], _until_stopped(events, stop))


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

    told = _until_stopped(events, stop)
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

    measured, share_of_guess, told = 0, 1.0, _until_stopped(events, stop)
    for number, values in enumerate(job["options"]):
        told(number / len(job["options"]), "Measuring how long a step takes here")
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

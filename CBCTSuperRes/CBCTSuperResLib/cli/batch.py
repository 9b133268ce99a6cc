"""`cbct-superres batch` and the script batch.py: many scans, as many at a time as the machine carries.

The processes that compute stay for the whole batch and keep the model; a scan that fails, or takes its process along,
does not hinder the others. Each result gets a report beside it (`<result>.json`); a table of all is printed at the end,
and a page with pictures, `summary.html`, lies in the folder of the results. Ctrl-C, or SIGTERM, cancels the scans that
are being computed and begins no other; what is done stays. A second one does not wait for the workers to stop. On a
cluster (`--cluster`) the first one lets them be finished, and the second one cancels them.

Exit code: 0 if every scan was done or skipped; otherwise that of the first failure (2 options, 3 input, 4 model,
5 memory or disk, 6 device, 7 output, 8 missing packages, 130 cancelled, 1 anything else).
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from .. import NOTICE
from ..core.atomic import FileLock, locks_work
from ..core.errors import Cancelled, OptionError, OutputError, SuperResError
from ..core.gpus import count_gpus
from ..core.memory import available_memory, readable
from ..core.options import Options
from ..core.processes import usable_cores
from ..io.folders import find_scans, told
from ..jobs.cluster import LOCAL, LOCAL_PREFIX, MOST_JOBS, Cluster, check_device
from ..jobs.cluster_queue import ClusterQueue
from ..jobs.job import Job
from ..jobs.pool import PoolWorker
from ..jobs.queue import FileTask, Item, Queue, State, make_folder, target_in
from ..jobs.summary import PAGE, picture_of, write_summary
from ..models.card import ModelCard, read_card
from ..models.folder import default_model, find_model
from .apply import SHARE_OF_MEMORY
from .apply_arguments import add_apply_arguments, add_dicom_arguments, dicom_from_arguments, options_from_arguments
from .batch_table import LiveTable, table
from .sbatch import slurm_script, words_for_a_job
from .terminal import Parser

POLL_INTERVAL_S = 0.1
LOCK = ".batch.lock"
SCANS = "files, DICOM or picture folders, folders of scans, or patterns"


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    if arguments[:1] == ["--"]:  # Slicer swallows it, Python does not
        del arguments[0]
    parsed = make_parser().parse_args(arguments)
    try:
        return run(parsed)
    except SuperResError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code


def make_parser() -> argparse.ArgumentParser:
    """The script's parser: its scans come after --input."""
    parser = Parser(prog="batch.py", description="Super-resolve many CBCT scans.", epilog=__doc__.rpartition("\n\n")[2])
    parser.add_argument("--input", nargs="+", action="extend", required=True, metavar="SCAN", help=SCANS)
    _add_arguments(parser)
    return parser


def add_batch_command(commands) -> None:
    """Declare `batch`: the same, its scans as they are."""
    parser = commands.add_parser(
        "batch", help="super-resolve many scans", description="Super-resolve many scans.", epilog=NOTICE
    )
    parser.add_argument("input", nargs="+", metavar="SCAN", help=SCANS)
    _add_arguments(parser)
    parser.set_defaults(run=run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--output", nargs="+", action="extend", metavar="FILE", help="one file (DICOM: folder) a scan, in order"
    )
    target.add_argument("--output-folder", type=Path, metavar="FOLDER", help="results are named after the scans")
    parser.add_argument("--skip-existing", action="store_true", help="skip scans whose result is there and up to date")
    many = parser.add_argument_group("many at a time, on one machine or a cluster")
    many.add_argument(
        "--workers", type=int, metavar="N", help="scans computed at a time (default: what memory and cores carry)"
    )
    many.add_argument(
        "--array",
        type=_share,
        metavar="I/N",
        help="only the I-th of N shares of the scans, for job arrays of a cluster",
    )
    many.add_argument(
        "--cluster",
        metavar="PLACE",
        help="compute on Dask workers (extra package: cbct-superres[cluster]): local, local:N, slurm, pbs, lsf, sge, "
        "FILE.yaml with options of dask-jobqueue, or tcp://HOST:PORT of a scheduler",
    )
    many.add_argument(
        "--print-sbatch",
        type=int,
        metavar="N",
        help="print a Slurm script that does this as an array of N jobs, and end",
    )
    add_apply_arguments(parser)
    add_dicom_arguments(parser)


def run(parsed: argparse.Namespace) -> int:
    """Do what the arguments say; returns the exit code.

    Raises
    ------
    SuperResError
        If nothing can begin.
    """
    if parsed.workers is not None and parsed.workers < 1:
        raise OptionError(f"--workers is {parsed.workers}.", "Give 1 or more.")
    options = options_from_arguments(parsed)
    tasks = plan(parsed, options, chosen_card(parsed.model, options))
    if parsed.print_sbatch is not None:
        print(array_script(parsed, len(tasks)), end="")
        return 0
    if parsed.array:
        share, count = parsed.array
        tasks = tasks[share - 1 :: count]
        print(f"Share {share} of {count}: {len(tasks)} scans", flush=True)
    alone = _alone_in(parsed.output_folder) if parsed.output_folder and not parsed.array else nullcontext()
    with alone, interrupts() as asked:
        items = [Item(task.source, task) for task in tasks]
        if parsed.cluster:
            compute_on_cluster(items, parsed, asked)
        else:
            compute_here(items, parsed, asked)
        print(table(items), flush=True)
        if parsed.output_folder and not parsed.array:
            print(f"Pictures and figures of all: {write_summary(items, parsed.output_folder / PAGE)}", flush=True)
    spared = any(item.state is State.CANCELLED for item in items)
    return next((item.error.exit_code for item in items if item.error), Cancelled.exit_code if spared else 0)


def compute_here(items: Sequence[Item], parsed: argparse.Namespace, asked: list[int]) -> None:
    """Compute on this machine, until all is done or cancelled."""
    queue = Queue(items)
    workers, why = choose_workers([item.task for item in items], parsed.workers)
    if why:
        print(why, flush=True)
    queue.begin(queue.items, parsed.skip_existing, workers)
    follow(queue, asked, "  Cancelling; what is done stays.", LiveTable(len(items), len(workers)))


def compute_on_cluster(items: Sequence[Item], parsed: argparse.Namespace, asked: list[int]) -> None:
    """Compute on Dask's workers, until all is done or cancelled.

    Raises
    ------
    SuperResError
        If there are none, or none that can take part.
    """
    place = parsed.cluster
    if parsed.array:
        raise OptionError("--array and --cluster are two ways to share the work.", "Say one of them.")
    if parsed.workers and ("://" in place or place.startswith(LOCAL_PREFIX)):
        raise OptionError(f"--workers does not change how many --cluster {place} has.", "Leave it out.")
    check_device(parsed.device)
    if place == LOCAL:
        place = f"{LOCAL_PREFIX}{_local_workers([item.task for item in items], parsed.workers)}"
    live = LiveTable(len(items), len(items))
    with Cluster(place, min(len(items), parsed.workers or MOST_JOBS)) as cluster:
        live.say(f"Dashboard: {cluster.dashboard}")
        queue = ClusterQueue(items, cluster, live.say)
        with queue.begun(parsed.skip_existing):
            drain = "  No other scan is begun; those that are being computed are finished. Again: cancel them, too."
            follow(queue, asked, drain, live)


def _local_workers(tasks: Sequence[FileTask], wanted: int | None) -> int:
    """How many Dask workers this machine carries: one a GPU, or as many as a batch without Dask would have."""
    if wanted is None and tasks[0].options.devices != ("cpu",) and count_gpus():
        return count_gpus()
    workers, why = choose_workers(tasks, wanted)
    for worker in workers:
        worker.close()
    if why:
        print(why, flush=True)
    return len(workers)


def chosen_card(model: str | None, options: Options) -> ModelCard | None:
    """The model of all scans; None where each scan's own voxels decide, see `default_model`.

    Raises
    ------
    ModelError, OptionError
        If there is no such model, or none that offers the factors.
    """
    if model:
        return read_card(find_model(model))
    if options.output_spacing is not None:
        return None
    try:
        usual = default_model(options)
    except OptionError:
        if not isinstance(options.scale, tuple) or max(options.scale) <= options.scale[2]:
            raise
        return None  # of scans whose slices are thick along i or j it may be done
    return None if isinstance(options.scale, tuple) else usual


def plan(parsed: argparse.Namespace, options: Options, card: ModelCard | None) -> list[FileTask]:
    """Which scan becomes which file.

    Raises
    ------
    InputError, OptionError, OutputError
        If nothing is found, two scans would become the same file, or their folder cannot be made.
    """
    dicom, sources = dicom_from_arguments(parsed), []
    for text in parsed.input:
        scans, left_out = find_scans(text)
        sources += scans
        for sentence in told(left_out, Path(text) if Path(text).is_dir() else None):
            print(f"{text}: {sentence}", file=sys.stderr if parsed.print_sbatch is not None else sys.stdout, flush=True)
    if parsed.output_folder:
        if parsed.print_sbatch is None:
            make_folder(parsed.output_folder)
        targets = [target_in(parsed.output_folder, source, card, options, dicom["as_dicom"]) for source in sources]
    else:
        targets = [Path(text) for text in parsed.output]
    if len(sources) != len(targets):
        raise OptionError(f"There are {len(sources)} scans and {len(targets)} outputs.", "Use --output-folder.")
    if len(set(targets)) < len(targets):
        raise OptionError("Two scans would become the same file.", "Rename one, or name each result with --output.")
    reading = {name: getattr(parsed, name) for name in ("compress", "spacing", "series", "override")}
    tasks = [
        FileTask(source.absolute(), target.absolute(), card if parsed.model else None, options, **reading, **dicom)
        for source, target in zip(sources, targets, strict=True)
    ]
    if parsed.output_folder:
        tasks = [replace(task, picture=picture_of(task.target)) for task in tasks]
    return tasks


def choose_workers(tasks: Sequence[FileTask], wanted: int | None) -> tuple[list[PoolWorker], str]:
    """The processes that will compute, and a sentence that says why so many; none where there is nothing to choose.

    Every worker but a single one computes with its share of the cores. What a scan needs is asked of the first worker,
    because no header is read here.
    """
    first, cores = PoolWorker(), usable_cores()
    if len(tasks) < 2 or wanted == 1:
        return [first], ""
    devices = tasks[0].options.devices
    if len(devices) > 1:
        return [first], f"One scan at a time, on {len(devices)} devices."
    if wanted is None and devices != ("cpu",) and count_gpus():
        return [first], "One scan at a time, on the graphics card."
    free, need = available_memory(), _most_memory(tasks, first)
    fitting = max(1, int(SHARE_OF_MEMORY * free / need)) if need else 1
    number = min(len(tasks), wanted or min(cores, fitting))
    threads = max(1, cores // number)
    needs = f"a scan takes up to {readable(need)}" if need else "what a scan takes cannot be told from its header"
    why = f"{number} scans at a time, each with {threads} of {cores} cores: {needs}, {readable(free)} are free."
    if need and number * need > free:
        why += " That is more than there is; choose fewer --workers if memory runs out."
    if number == 1:
        return [first], why.replace("1 scans at a time, each with", "One scan at a time, with")
    first.threads = threads
    return [first, *(PoolWorker(threads) for _ in range(number - 1))], why


def _most_memory(tasks: Sequence[FileTask], worker: PoolWorker) -> int | None:
    card = tasks[0].card
    task = {
        "kind": "survey",
        "inputs": [str(task.source) for task in tasks],
        "model": card and str(card.path.absolute()),
    }
    job = Job({**task, "options": replace(tasks[0].options, roi=None).to_json()}, worker=worker).start()
    try:
        needs = job.wait()["memory_bytes"]
    except SuperResError:  # the scans will tell
        return None
    finally:
        job.close()
    return max((need for need in needs if need), default=None)


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 1/4, with I from 1 to N")
    return int(found[1]), int(found[2])


def array_script(parsed: argparse.Namespace, scans: int) -> str:
    """A Slurm script that does the same as an array of jobs, each with its share of the scans.

    Raises
    ------
    OptionError
        If there are fewer scans than jobs.
    """
    jobs = parsed.print_sbatch
    if not 1 <= jobs <= scans:
        raise OptionError(f"{scans} scans cannot be shared among {jobs} jobs.", f"Give 1 to {scans}.")
    command = "cbct-superres" if parsed.words[:1] == ["batch"] else "python -m CBCTSuperResLib.batch"
    job = [f"--array=1-{jobs}", "--cpus-per-task=8", "--mem=16G", "--time=12:00:00", "# With GPUs: #SBATCH --gpus=1"]
    return slurm_script(job, [f'{command} {words_for_a_job(parsed.words)} --array "$SLURM_ARRAY_TASK_ID/{jobs}"'])


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of results, so that two batches do not do each other's work."""
    lock = FileLock(folder / LOCK)
    share = "Let each do a share of its own: --array 1/2 and --array 2/2."
    try:
        if not locks_work(folder):
            raise OutputError(f"The file system of {folder} has no locks: another batch could do the same work.", share)
        if not lock.acquire():
            raise OutputError(f"Another batch is working in {folder}.", f"Wait for its end. {share}")
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written: {error.strerror}.", "Choose another one.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """The signals to stop that have come meanwhile; they do nothing else.

    Python would raise KeyboardInterrupt anywhere, and Slicer leaves them to the system, which ends the application
    without a word. What was ignored before, as in the background of a shell, stays ignored.
    """
    asked: list[int] = []
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, frame: asked.append(number))
    except ValueError:  # not the main thread: it gets none
        pass
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def follow(queue: Queue | ClusterQueue, asked: list[int], cancelling: str, live: LiveTable) -> None:
    """Poll a queue until it has ended, and print what becomes of its items; see `interrupts`.

    Parameters
    ----------
    cancelling : str
        What is said when the first signal has come; from the second one on the queue is closed.
    """
    told = {item: item.state for item in queue.items}
    while queue.isBusy:
        if asked and not queue.isCancelling:
            live.say(cancelling)
            queue.cancel()
        if len(asked) > 1:
            queue.close()
        queue.poll()
        for number, item in enumerate(queue.items, 1):
            before, told[item] = told[item], item.state
            if before is State.WAITING and item.state not in (State.WAITING, State.CANCELLED):
                live.begin(number, item)
            if item.state not in (before, State.WAITING, State.RUNNING):
                live.end(number, item)
        if any(item.state is State.RUNNING for item in queue.items):
            if not queue.isCancelling:
                live.show(queue.items)
            time.sleep(POLL_INTERVAL_S)

"""Many scans, one after the other; the same script for Slicer, PythonSlicer and any Python.

    Slicer --no-splash --no-main-window --python-script batch.py -- --input A.nrrd --output B.nrrd
    python batch.py --input SCANS --output-folder RESULTS --skip-existing
    python -m CBCTSuperResLib.batch --input "SCANS/*.nrrd" --output-folder RESULTS

Every scan is computed in a worker process of its own, so that one that fails does not hinder the next. Each result gets
a report beside it (`<result>.json`); a table of all is printed at the end. Ctrl-C, or SIGTERM, cancels the scan that is
being computed and begins no other; what is done stays. A second one does not wait for the worker to stop.

Exit code: 0 if every scan was done or skipped; otherwise that of the first failure (2 options, 3 input, 4 model,
5 memory or disk, 6 device, 7 output, 8 missing packages, 130 cancelled, 1 anything else).
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # run as a file: the library is found by its folder, not by this one
    library = Path(__file__).resolve().parent
    sys.path[:] = [str(library.parent), *(p for p in sys.path if Path(p).resolve() != library)]

from CBCTSuperResLib.cli.apply import (
    add_apply_arguments,
    add_dicom_arguments,
    dicom_from_arguments,
    options_from_arguments,
)
from CBCTSuperResLib.cli.terminal import with_triples
from CBCTSuperResLib.core.errors import Cancelled, OptionError, SuperResError, printable
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.progress import duration_text
from CBCTSuperResLib.io.folders import find_scans, told
from CBCTSuperResLib.jobs.queue import FileTask, Item, Queue, State, make_folder, target_in
from CBCTSuperResLib.models.card import ModelCard, read_card
from CBCTSuperResLib.models.folder import default_model, find_model

POLL_INTERVAL_S = 0.1


def main(arguments: list[str] | None = None) -> int:
    """Run the batch command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    if arguments[:1] == ["--"]:  # Slicer swallows it, Python does not
        del arguments[0]
    parsed = make_parser().parse_args(with_triples(arguments))
    try:
        options = options_from_arguments(parsed)
        tasks = plan(parsed, options, chosen_card(parsed.model, options))
    except SuperResError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    queue = Queue([Item(task.source, task) for task in tasks])
    queue.begin(queue.items, parsed.skip_existing)
    with interrupts() as asked:
        follow(queue, asked)
    print(table(queue.items), flush=True)
    spared = any(item.state is State.CANCELLED for item in queue.items)
    return next((item.error.exit_code for item in queue.items if item.error), Cancelled.exit_code if spared else 0)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="batch.py",
        description="Super-resolve many CBCT scans, one after the other.",
        epilog=__doc__.rpartition("\n\n")[2],
    )
    parser.add_argument(
        "--input",
        nargs="+",
        action="extend",
        required=True,
        metavar="SCAN",
        help="files, DICOM or picture folders, folders of scans, or patterns; may be given many times",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--output", nargs="+", action="extend", metavar="FILE", help="one file (DICOM: folder) a scan, in order"
    )
    target.add_argument("--output-folder", type=Path, metavar="FOLDER", help="results are named after the scans")
    parser.add_argument("--skip-existing", action="store_true", help="skip scans whose result is there and up to date")
    add_apply_arguments(parser)
    add_dicom_arguments(parser)
    return parser


def chosen_card(model: str | None, options: Options) -> ModelCard | None:
    """The model of all scans; None where each scan's own voxel size decides, see `default_model`.

    Raises
    ------
    ModelError, OptionError
        If there is no such model, or none that offers the factors.
    """
    if model:
        return read_card(find_model(model))
    return default_model(options) if options.output_spacing is None else None


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
            print(f"{text}: {sentence}", flush=True)
    if parsed.output_folder:
        make_folder(parsed.output_folder)
        targets = [target_in(parsed.output_folder, source, card, options, dicom["as_dicom"]) for source in sources]
    else:
        targets = [Path(text) for text in parsed.output]
    if len(sources) != len(targets):
        raise OptionError(f"There are {len(sources)} scans and {len(targets)} outputs.", "Use --output-folder.")
    if len(set(targets)) < len(targets):
        raise OptionError("Two scans would become the same file.", "Rename one, or name each result with --output.")
    reading = {name: getattr(parsed, name) for name in ("compress", "spacing", "series", "override")}
    return [
        FileTask(source.absolute(), target.absolute(), card, options, **reading, **dicom)
        for source, target in zip(sources, targets, strict=True)
    ]


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


def follow(queue: Queue, asked: list[int]) -> None:
    """Poll a queue until it has ended, and print what becomes of its items; see `interrupts`."""
    line = ProgressLine()
    told = {item: item.state for item in queue.items}
    while queue.isBusy:
        if asked and not queue.isCancelling:
            line.end("Cancelling; what is done stays.")
            queue.cancel()
        if len(asked) > 1:
            queue.close()
        queue.poll()
        for number, item in enumerate(queue.items, 1):
            before, told[item] = told[item], item.state
            if before is State.WAITING and item.state not in (State.WAITING, State.CANCELLED):
                print(f"[{number}/{len(queue.items)}] {printable(str(item.source))}", flush=True)
            if item.state is State.RUNNING:
                if not queue.isCancelling:
                    line.show(item.fraction, item.message, item.remaining)
                time.sleep(POLL_INTERVAL_S)
            elif item.state is not before and item.state is not State.WAITING:
                _print_end(item, line)


def table(items: list[Item]) -> str:
    """One line a scan, for people."""
    # Of those that a Ctrl-C has spared nothing has happened.
    states = ["waiting" if i.state is State.CANCELLED and not i.error else i.state.value for i in items]
    rows = zip(states, items, strict=True)
    lines = [f"{state:9} {duration_text(item.seconds or None):>9}  {item.source.name}" for state, item in rows]
    counts = ", ".join(f"{state} {states.count(state)}" for state in dict.fromkeys(states))
    return "\n".join(["", *lines, f"{len(items)} scans: {counts}"])


def _print_end(item: Item, line: ProgressLine) -> None:
    if item.state is State.CANCELLED and not item.error:  # it never began
        return
    skipped = item.state is State.SKIPPED
    line.end("up to date, skipped" if skipped else f"{item.state.value}, {duration_text(item.seconds)}")
    for warning in item.warnings:
        print(f"  Warning: {warning}", flush=True)
    if item.state is State.FAILED:
        print(f"  Error: {item.error}", file=sys.stderr, flush=True)


class ProgressLine:
    """How far a scan is: a line that is rewritten on a terminal; elsewhere, one line every ten per cent.

    Slicer shows what is printed only when a line has ended, so that its terminal is none.
    """

    def __init__(self) -> None:
        self._is_terminal = getattr(sys.stdout, "isatty", bool)()
        self._tenths, self._width = 0, 0

    def show(self, fraction: float, message: str, remaining_s: float | None) -> None:
        stage = (message if self._is_terminal else message.partition(":")[0]) or "Starting"
        text = f"  {fraction:4.0%} {stage}" + (f", {duration_text(remaining_s)} left" if remaining_s else "")
        if self._is_terminal:
            self._rewrite(text)
        elif int(10 * fraction) > self._tenths:
            self._tenths = int(10 * fraction)
            print(text, flush=True)

    def end(self, outcome: str) -> None:
        """Let an outcome take the place of the progress; the next begins anew."""
        if self._is_terminal:
            self._rewrite(f"  {outcome}")
            print(flush=True)
        else:
            print(f"  {outcome}", flush=True)
        self._tenths, self._width = 0, 0

    def _rewrite(self, text: str) -> None:
        text = text[: shutil.get_terminal_size().columns - 1]  # a line that breaks could not be rewritten
        print("\r" + text.ljust(self._width), end="", flush=True)
        self._width = len(text)


if __name__ == "__main__":
    sys.exit(main())

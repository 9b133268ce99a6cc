"""Many scans, one after the other; the same script for Slicer, PythonSlicer and any Python.

    Slicer --no-splash --no-main-window --python-script batch.py -- --input A.nrrd --output B.nrrd
    python batch.py --input SCANS --output-folder RESULTS --skip-existing
    python -m CBCTSuperResLib.batch --input "SCANS/*.nrrd" --output-folder RESULTS

Every scan is computed in a worker process of its own, so that one that fails does not hinder the next. Each result gets
a report beside it (`<result>.json`); a table of all is printed at the end.

Exit code: 0 if every scan was done or skipped; otherwise that of the first failure (2 options, 3 input, 4 model,
5 memory or disk, 6 device, 7 output, 8 missing packages, 130 cancelled, 1 anything else).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # run as a file: the library is found by its folder, not by this one
    library = Path(__file__).resolve().parent
    sys.path[:] = [str(library.parent), *(p for p in sys.path if Path(p).resolve() != library)]

from CBCTSuperResLib.cli.apply import add_apply_arguments, options_from_arguments
from CBCTSuperResLib.core.errors import OptionError, SuperResError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.progress import duration_text
from CBCTSuperResLib.jobs.queue import FileTask, Item, Queue, State, find_scans, make_folder, target_in
from CBCTSuperResLib.models.card import ModelCard, read_card
from CBCTSuperResLib.models.folder import DEFAULT_MODEL, find_model

POLL_INTERVAL_S = 0.1


def main(arguments: list[str] | None = None) -> int:
    """Run the batch command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["--"]:  # Slicer swallows it, Python does not
        del arguments[0]
    parsed = make_parser().parse_args(arguments)
    try:
        options = options_from_arguments(parsed)
        tasks = plan(parsed, options, read_card(find_model(parsed.model or DEFAULT_MODEL)))
    except SuperResError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    queue = Queue([Item(task.source, task) for task in tasks])
    queue.begin(queue.items, parsed.skip_existing)
    try:
        follow(queue)
    except KeyboardInterrupt:
        queue.cancel()
        follow(queue)
    print(table(queue.items), flush=True)
    return next((item.error.exit_code for item in queue.items if item.error), 0)


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
    target.add_argument("--output", nargs="+", action="extend", metavar="FILE", help="one file for each scan, in order")
    target.add_argument("--output-folder", type=Path, metavar="FOLDER", help="results are named after the scans")
    parser.add_argument("--skip-existing", action="store_true", help="skip scans whose result is there and up to date")
    add_apply_arguments(parser)
    return parser


def plan(parsed: argparse.Namespace, options: Options, card: ModelCard) -> list[FileTask]:
    """Which scan becomes which file.

    Raises
    ------
    InputError, OptionError, OutputError
        If nothing is found, two scans would become the same file, or their folder cannot be made.
    """
    sources = [scan for text in parsed.input for scan in find_scans(text)]
    if parsed.output_folder:
        make_folder(parsed.output_folder)
        targets = [target_in(parsed.output_folder, source, card, options) for source in sources]
    else:
        targets = [Path(text) for text in parsed.output]
    if len(sources) != len(targets):
        raise OptionError(f"There are {len(sources)} scans and {len(targets)} outputs.", "Use --output-folder.")
    if len(set(targets)) < len(targets):
        raise OptionError("Two scans would become the same file.", "Rename one, or name each result with --output.")
    reading = {"compress": parsed.compress, "spacing": parsed.spacing, "series": parsed.series}
    return [
        FileTask(source.absolute(), target.absolute(), card, options, **reading)
        for source, target in zip(sources, targets, strict=True)
    ]


def follow(queue: Queue) -> None:
    """Poll a queue until it has ended, and print what becomes of its items."""
    line = ProgressLine()
    told = {item: item.state for item in queue.items}
    try:
        while queue.isBusy:
            queue.poll()
            for number, item in enumerate(queue.items, 1):
                before, told[item] = told[item], item.state
                if before is State.WAITING and item.state not in (State.WAITING, State.CANCELLED):
                    print(f"[{number}/{len(queue.items)}] {item.source}", flush=True)
                if item.state is State.RUNNING:
                    line.show(item.fraction, item.message, item.remaining)
                    time.sleep(POLL_INTERVAL_S)
                elif item.state is not before:
                    line.end()
                    _print_end(item)
    finally:
        line.end()


def table(items: list[Item]) -> str:
    """One line a scan, for people."""
    # Of those that a Ctrl-C has spared nothing has happened.
    states = ["waiting" if i.state is State.CANCELLED and not i.error else i.state.value for i in items]
    rows = zip(states, items, strict=True)
    lines = [f"{state:9} {duration_text(item.seconds or None):>9}  {item.source.name}" for state, item in rows]
    counts = ", ".join(f"{state} {states.count(state)}" for state in dict.fromkeys(states))
    return "\n".join(["", *lines, f"{len(items)} scans: {counts}"])


def _print_end(item: Item) -> None:
    for warning in item.warnings:
        print(f"  Warning: {warning}", flush=True)
    if item.state is State.SKIPPED:
        print("  up to date, skipped", flush=True)
    elif item.state is State.FAILED:
        print(f"  Error: {item.error}", file=sys.stderr, flush=True)


class ProgressLine:
    """A line that is rewritten on a terminal; elsewhere, one line for each stage."""

    def __init__(self) -> None:
        self._is_terminal = getattr(sys.stdout, "isatty", bool)()
        self._last, self._width = "", 0

    def show(self, fraction: float, message: str, remaining_s: float | None) -> None:
        if not self._is_terminal:
            if message and message != self._last:
                print(f"  {message}", flush=True)
            self._last = message
            return
        rest = duration_text(remaining_s)
        text = f"  {fraction:4.0%} {message}" + (f", {rest} left" if rest else "")
        print("\r" + text.ljust(self._width), end="", flush=True)
        self._width = len(text)

    def end(self) -> None:
        if self._is_terminal and self._width:
            print()
        self._last, self._width = "", 0


if __name__ == "__main__":
    sys.exit(main())

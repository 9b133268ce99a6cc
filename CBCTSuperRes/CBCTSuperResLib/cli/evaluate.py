"""The command `cbct-superres evaluate`: results against the truth, as HTML report, CSV and JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import NOTICE
from ..acquisition.scanner import AXES, P2, Acquisition
from ..core.errors import OptionError
from ..core.options import ENSEMBLES
from ..io.folders import find_scans, told
from ..io.formats import stem_of
from ..scan.window import PRESETS
from .apply_arguments import WindowAction, box_from_numbers
from .terminal import Progress, add_command

if TYPE_CHECKING:
    from ..evaluate.study import Settings

HTML, TABLE, FACTS = "report.html", "values.csv", "report.json"  # of evaluate/files.py, which needs more than numpy
PROTOCOLS = {"P2": "axial", "P3": "isotropic"}


def add_evaluate_command(commands) -> None:
    """Declare the command."""
    parser = add_command(commands, "evaluate", "measure results against a fine scan of the same object", run_evaluate)
    what = parser.add_argument_group("scans")
    what.add_argument("--hr", required=True, metavar="SCAN", help="the truth: a fine scan, or a folder of scans")
    what.add_argument(
        "--sr",
        action="append",
        default=[],
        metavar="SCAN",
        help="a result to measure (or a folder); NAME=SCAN names it",
    )
    what.add_argument(
        "--model", action="append", default=[], metavar="M", help="a model to measure, by name or file; may be repeated"
    )
    what.add_argument(
        "--lr", metavar="SCAN", help="a coarse scan of the same object (or a folder); else it is simulated"
    )
    what.add_argument("--out", required=True, type=Path, metavar="DIR", help=f"for {HTML}, {TABLE} and {FACTS}")

    how = parser.add_argument_group("coarse scan")
    how.add_argument(
        "--simulate",
        choices=PROTOCOLS,
        help="P2: half the sampling within slices (default); P3: along all axes; both with blur and noise",
    )
    how.add_argument("--planes", choices=AXES, help="with --lr: enlarge in the slice plane or in all axes")
    how.add_argument("--blur", type=float, default=P2.blur, metavar="SIGMA", help="of the simulation, in fine voxels")
    how.add_argument("--noise", type=float, default=P2.noise, metavar="SHARE", help="of the simulation, of the window")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the simulated noise")

    also = parser.add_argument_group("comparing")
    window = also.add_mutually_exclusive_group()
    window.add_argument(
        "--window",
        nargs="+",
        action=WindowAction,
        metavar=("LO", "HI"),
        help='grey values that count: two numbers, "auto" or "model" (default: as for apply)',
    )
    window.add_argument("--preset", choices=PRESETS, metavar="NAME", help="the same by name, see apply --help")
    also.add_argument(
        "--box",
        type=int,
        nargs=6,
        metavar=("I0", "I1", "J0", "J1", "K0", "K1"),
        help="part of the fine scan to compare, half-open (default: the middle, up to 512 x 512 x 48 voxels)",
    )
    also.add_argument(
        "--measures", nargs="+", metavar="NAME", help="only these, by their names in the table of values (default: all)"
    )
    also.add_argument("--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help="mm, for scans that do not say")
    also.add_argument("--override", action="store_true", help="believe --spacing where a scan records another one")
    also.add_argument("--series", metavar="UID", help="series to read from DICOM folders that hold several")
    also.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    also.add_argument("--ensemble", type=int, choices=ENSEMBLES, default=1, metavar="N", help="as for apply")
    also.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run_evaluate(parsed: argparse.Namespace) -> None:
    """`cbct-superres evaluate`"""
    with Progress(parsed.quiet) as progress:
        facts = evaluate(parsed, progress)
    if not parsed.quiet:
        print(_text(facts, parsed.out))


def evaluate(parsed: argparse.Namespace, progress: Callable[[float, str], None]) -> dict:
    """Compare, and write the three files.

    Returns
    -------
    dict
        What report.json holds.

    Raises
    ------
    SuperResError
    """
    from ..evaluate.contenders import FileContender, ModelContender, check_names, matched
    from ..evaluate.files import evaluate_scans

    settings = _settings(parsed)
    references = _scans(parsed.hr)
    contenders = [ModelContender.load(given, parsed.device, parsed.ensemble) for given in parsed.model]
    for given in parsed.sr:
        name, _, place = given.rpartition("=")
        files = matched(references, _scans(place), f"{place} (--sr)")
        contenders.append(FileContender(name or stem_of(place), files))
    check_names(contenders)
    coarse = [None] * len(references)
    if parsed.lr is not None:
        coarse = matched(references, _scans(parsed.lr), f"{parsed.lr} (--lr)")

    title = f"Evaluation of {Path(parsed.hr).name}" + (f" ({len(references)} scans)" if len(references) > 1 else "")
    return evaluate_scans(references, contenders, settings, coarse, parsed.out, title, progress)


def _settings(parsed: argparse.Namespace) -> Settings:
    """How to compare, as the arguments say.

    Raises
    ------
    OptionError
    """
    from ..evaluate.study import Settings
    from ..measure.catalogue import MEASURES

    if parsed.lr is not None and parsed.simulate:
        raise OptionError("There is a coarse scan already.", "Leave out --lr or --simulate.")
    if parsed.lr is None and parsed.planes:
        raise OptionError("--planes is for a given coarse scan.", "Choose --simulate P2 or P3 instead.")
    if not 0 <= parsed.noise <= 0.5 or not 0 < parsed.blur <= 5:
        raise OptionError(f"Noise {parsed.noise:g} or blur {parsed.blur:g} is out of range.", "Noise 0-0.5, blur 0-5.")
    known = [measure.name for measure in MEASURES]
    unknown = sorted(set(parsed.measures or ()) - set(known))
    if unknown:
        raise OptionError(f"There is no measure {', '.join(unknown)}.", f"Choose among {', '.join(known)}.")
    planes = parsed.planes or PROTOCOLS[parsed.simulate or "P2"]
    return Settings(
        acquisition=Acquisition(planes, parsed.blur, parsed.noise),
        window=parsed.preset or parsed.window,
        seed=parsed.seed,
        spacing=parsed.spacing,
        override=parsed.override,
        series=parsed.series,
        box=box_from_numbers(parsed.box),
        measures=[measure for measure in MEASURES if parsed.measures is None or measure.name in parsed.measures],
    )


def _scans(text: str) -> list[Path]:
    """The scans that an argument means; what is left out is named on standard error."""
    scans, left_out = find_scans(text)
    for sentence in told(left_out, Path(text) if Path(text).is_dir() else None):
        print(f"{text}: {sentence}", file=sys.stderr)
    return scans


def _text(report: dict, folder: Path) -> str:
    """The most important figures, for a terminal."""
    methods, means = report["methods"], report["summary"]["means"]
    labels = {
        row["measure"]: f"{row['label']} ({row['unit']})" if row["unit"] else row["label"] for row in report["values"]
    }
    lines = [f"{'':34}" + "".join(f"{m[:14]:>15}" for m in methods)]
    for name, label in labels.items():
        values = [means[name][m]["mean"] for m in methods]
        if any(v is not None for v in values):
            lines.append(f"{label[:33]:34}" + "".join(f"{'-' if v is None else format(v, '.4g'):>15}" for v in values))
    notes = dict.fromkeys(note for scan in report["scans"] for note in scan["notes"])
    return "\n".join([*lines, "", *notes, f"Report: {folder / HTML}", NOTICE])

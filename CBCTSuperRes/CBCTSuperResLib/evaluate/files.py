"""An evaluation as files: a report for people, a table of values, and everything for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np

from .. import __version__
from ..apply.difference import REACH_PERCENTILE
from ..core.atomic import write_text
from ..core.progress import Report, part_of
from ..io.exchange import write_exchange
from ..io.volume import Volume
from .contenders import CUBIC, FileContender, ModelContender
from .report import FOR_RESEARCH, StudyText, report_html, summary
from .study import Settings, Study, rows_of, study

HTML, TABLE, FACTS = "report.html", "values.csv", "report.json"


def evaluate_scans(
    references: Sequence[Path],
    contenders: Sequence[ModelContender | FileContender],
    settings: Settings,
    coarse: Sequence[Path | None],
    folder: Path,
    title: str,
    progress: Report,
    seen: Callable[[Study], None] = lambda found: None,
    name: str | None = None,
) -> dict:
    """Compare, and write the three files.

    Parameters
    ----------
    coarse : sequence of Path or None
        A real coarse scan for each reference; None simulates one, where models are among the contenders.
    folder : Path
        For `HTML`, `TABLE` and `FACTS`.
    title : str
        Of the report.
    seen : callable, optional
        Given each study while its images are there.
    name : str, optional
        Of the reference, for people; its file's otherwise.

    Returns
    -------
    dict
        What `FACTS` holds.

    Raises
    ------
    SuperResError
    """
    texts, rows, scans = [], [], []
    for number, (reference, scan) in enumerate(zip(references, coarse, strict=True)):
        share = part_of(progress, number / len(references), (number + 1) / len(references))
        found = study(number, reference, contenders, settings, scan, share)
        if name is not None:
            found = replace(found, name=name, facts={**found.facts, "reference": name})
        seen(found)
        texts.append(StudyText(found, settings.measures))
        rows += rows_of(found, settings.measures)
        curves = {
            name: {
                "frequency": [round(float(f), 4) for f in curve.frequency],
                "correlation": [round(float(v), 4) for v in curve.value],
            }
            for name, curve in found.curves.items()
        }
        scans.append({**found.facts, "notes": found.notes, "fsc": curves, "quality": found.cards})
    report = {
        "program": f"CBCT Super-Resolution {__version__}",
        "methods": texts[0].methods,
        "scans": scans,
        "summary": summary(texts, settings.measures),
        "values": rows,
        "notice": FOR_RESEARCH,
    }
    write_text(folder / HTML, report_html(texts, settings.measures, title))
    table = StringIO()
    writer = csv.DictWriter(table, rows[0].keys() if rows else ["scan"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / TABLE, table.getvalue())
    write_text(folder / FACTS, json.dumps(report, indent=1, ensure_ascii=False))
    return report


def evaluate_result(
    scan: Path,
    result: Path,
    reference: Path,
    difference: Path,
    folder: Path,
    names: dict[str, str],
    progress: Report,
) -> dict:
    """Measure a result, and its interpolated scan, against a finer scan of the same object.

    Parameters
    ----------
    scan, result, reference : Path
        Of volumes that lie in the same frame.
    difference : Path
        For the result minus the reference, where they were compared, in exchange format.
    folder : Path
        For the report.
    names : dict
        Of "result" and "reference", for people.

    Returns
    -------
    dict
        "figures": list of dict with label, unit, hint, digits, best and the values of "cubic" and "result" (None where
        they cannot be had); "curves": frequency in line pairs a millimetre (or shares of the highest) and correlation
        of both; "notes" for people; "reach": grey values that 99.5 % of the differences stay within; "folder".

    Raises
    ------
    SuperResError
        If a scan shows nothing, or they do not overlap.
    """
    settings, ours = Settings(), names["result"] if names["result"] != CUBIC else f"{CUBIC} (result)"
    kept: list[Study] = []

    def seen(found: Study) -> None:
        lo, hi = found.facts["window"]
        values = ((found.images[ours] - found.truth) * (hi - lo)).astype(np.float32)
        write_exchange(Volume(values, found.grid), difference)
        reach = float(np.percentile(np.abs(values), REACH_PERCENTILE))
        kept.append(replace(found, facts={**found.facts, "reach": max(reach, 1e-6)}))

    title = f"{names['result']} against {names['reference']}"
    contenders = [FileContender(ours, (result,))]
    evaluate_scans(
        [reference], contenders, settings, [scan], folder, title, progress, seen=seen, name=names["reference"]
    )
    found = kept[0]
    figures = []
    for measure in settings.measures:
        values = {"cubic": found.values[measure.name][CUBIC], "result": found.values[measure.name][ours]}
        values = {method: float(value) if np.isfinite(value) else None for method, value in values.items()}
        if any(value is not None for value in values.values()):
            best = None if np.isinf(measure.best) else measure.best
            facts = {"label": measure.label, "unit": measure.unit, "hint": measure.hint, "digits": measure.digits}
            figures.append({**facts, "best": best, **values})
    per_mm = 1.0 if found.spacing is None else 0.5 / max(found.spacing)
    curves = {
        method: {
            "frequency": (found.curves[name].frequency * per_mm).tolist(),
            "correlation": found.curves[name].value.tolist(),
        }
        for method, name in (("cubic", CUBIC), ("result", ours))
    }
    unit = "line pairs per mm" if found.spacing else "share of the highest frequency"
    return {
        "kind": "evaluate",
        "figures": figures,
        "curves": curves,
        "unit": unit,
        "notes": found.notes,
        "reach": found.facts["reach"],
        "folder": str(folder),
    }

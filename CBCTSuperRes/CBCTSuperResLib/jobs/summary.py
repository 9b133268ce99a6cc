"""The page about a batch: a picture of every scan beside its result, its figures and warnings, in one HTML file."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

from .. import NOTICE
from ..core.atomic import replacing
from ..core.progress import duration_text
from ..io.folders import report_path
from .queue import FINISHED, Item

PAGE = "summary.html"
PICTURES = ".summary"
STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em} h2{font-size:1.05em;margin:0 0 .3em;overflow-wrap:anywhere}
.notice{border-left:4px solid #d55e00;padding:.2em .8em}
section{display:flex;flex-wrap:wrap;gap:6px 20px;border-top:1px solid #8886;padding:.9em 0}
section>div{flex:1 1 340px} img{width:482px;max-width:100%;image-rendering:pixelated;align-self:flex-start}
table{border-collapse:collapse} td{padding:.1em .8em .1em 0;vertical-align:top} td:first-child{color:#777}
.look{color:#d55e00;font-weight:600} ul{margin:.3em 0;padding-left:1.2em}
"""


def picture_of(target: Path) -> Path:
    """Where the picture of a result lies; its folder is hidden, so that it is not taken for a scan."""
    return target.parent / PICTURES / f"{target.name}.png"


def write_summary(items: Sequence[Item], path: Path) -> Path:
    """Write the page; those that need a look come first. Returns its path.

    Parameters
    ----------
    items : sequence of Item
        Of a queue that has ended, with a `FileTask` each.
    path : Path

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    rows = sorted((_row(item) for item in items), key=lambda row: -row[0])
    looks = sum(need > 0 for need, _ in rows)
    precisions = _precisions(items)
    title = f"{len(rows)} scans, {looks} of them need a look" if looks else f"{len(rows)} scans"
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>
<h1>{title}</h1><p class="notice">For research. {NOTICE}</p>
<p>Left the scan, enlarged by cubic interpolation; right the result: the middle of the middle slice.</p>{precisions}
{"".join(html for _, html in rows)}</html>
"""
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return path


def _precisions(items: Sequence[Item]) -> str:
    """A sentence where scans were computed in different precisions, as processors that differ do; otherwise ""."""
    reports = [_report(item) for item in items if item.state in FINISHED]
    found = Counter(report["super_resolution"].get("precision") for report in reports if report)
    if len(found) < 2:
        return ""
    told = ", ".join(f"{precision} for {count}" for precision, count in found.most_common())
    return f"<p>Computed in different precisions: {escape(told)}. With --precision fp32 all are alike.</p>"


def _row(item: Item) -> tuple[int, str]:
    """How much an item needs a look, and its part of the page."""
    name, report = escape(item.source.name), _report(item)
    if report is None or item.state not in FINISHED:
        why = str(item.error) if item.error else f"It is {item.state.value}."
        need = 1000 if item.error else 0
        return need, f'<section><div><h2>{name}</h2><p class="look">{escape(why)}</p></div></section>'
    run = report["super_resolution"]
    figures, warnings = run["quality"]["figures"], list(dict.fromkeys(map(str, report["warnings"])))
    marked = [figure for figure in figures if figure["attention"]]
    rows = [
        ("result", item.task.target.name),
        ("model", run["model"]),
        ("precision", run.get("precision", "")),
        ("time", duration_text(sum(run["seconds"].values()))),
    ]
    cells = [(escape(label), escape(str(text)), "") for label, text in rows]
    cells += [(escape(f["label"]), escape(f["text"]), ' class="look"' if f["attention"] else "") for f in figures]
    table = "".join(f"<tr><td>{label}</td><td{mark}>{text}</td></tr>" for label, text, mark in cells)
    said = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    picture = ""
    with suppress(OSError):
        data = base64.b64encode(picture_of(item.task.target).read_bytes()).decode()
        picture = f'<img alt="scan and result" src="data:image/png;base64,{data}">'
    html = f"<section>{picture}<div><h2>{name}</h2><table>{table}</table><ul>{said}</ul></div></section>"
    return 10 * len(marked) + len(warnings), html


def _report(item: Item) -> dict | None:
    """The report of an item's result, or None if there is none that can be read."""
    try:
        report = json.loads(report_path(item.task.target).read_text(encoding="utf-8"))
        run = report["super_resolution"]
        figures = run["quality"]["figures"]
        is_whole = all({"label", "text", "attention"} <= set(figure) for figure in figures)
        return report if is_whole and isinstance(report["warnings"], list) and run["seconds"] and run["model"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None

"""The HTML report of an evaluation: one file that needs nothing else, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import combinations

import numpy as np

from .. import NOTICE
from ..measure.catalogue import Measure
from ..measure.statistics import Mean, mean_difference, mean_with_interval
from .contenders import CUBIC
from .drawing import (
    Picture,
    fsc_chart,
    picture_rows,
    profile_chart,
)
from .study import Study

FOR_RESEARCH = f"For research. {NOTICE}"
MAIN = ("psnr", "fsc", "thickness", "gradient_correlation", "gradient_energy", "consistency", "spurious")
STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em} h2{font-size:1.2em;margin-top:2em;border-top:1px solid #8886;padding-top:.8em} h3{font-size:1em}
table{border-collapse:collapse;margin:.6em 0} th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left} td.best{font-weight:700} td small,.hint{color:#777;font-weight:400}
.row{display:grid;grid-template-columns:repeat(var(--columns),minmax(90px,230px));gap:8px;margin:.4em 0 1em;
overflow-x:auto} figure{margin:0} figure img{width:100%;image-rendering:pixelated;display:block}
figcaption{font-size:.85em;text-align:center}
.charts{display:flex;flex-wrap:wrap;gap:24px} .charts>div{flex:1 1 400px;max-width:560px}
svg{width:100%;height:auto} svg text{font:11px system-ui,sans-serif;fill:currentColor}
svg .frame{fill:none;stroke:#888} svg .grid{stroke:#8884} svg .level{stroke:#888;stroke-dasharray:2 3}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.85em} .legend i{display:inline-block;width:16px;height:4px;
margin-right:5px;vertical-align:middle} .notice{border-left:4px solid #d55e00;padding:.2em .8em;margin:1em 0}
.means small{display:block;white-space:nowrap} .words td{text-align:left}
.wide{overflow-x:auto} ul{padding-left:1.2em}
"""


class StudyText:
    """The part of a report about one scan; made while its images are at hand, which need not be kept then."""

    def __init__(self, study: Study, measures: Sequence[Measure]) -> None:
        self.name = study.name
        self.values, self.methods = study.values, list(study.images)
        self._html = "".join(_study_parts(study, measures))

    def __str__(self) -> str:
        return self._html


def report_html(studies: Sequence[StudyText], measures: Sequence[Measure], title: str = "Evaluation") -> str:
    """The whole file."""
    body = [f"<h1>{escape(title)}</h1>", f'<p class="notice">{FOR_RESEARCH}</p>']
    methods = studies[0].methods
    if CUBIC in methods:
        sentences = [s for method in methods if method != CUBIC for s in _sentences(studies, method)]
        body.append(f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>")
    if len(studies) > 1:
        body += ["<h2>All scans</h2>", _means_table(studies, measures), *_scan_tables(studies, measures)]
    for study in studies:
        body.append(f"<h2>{escape(study.name)}</h2>{study}")
    meanings = "".join(f"<li><b>{escape(m.label)}</b>: {escape(m.hint)}</li>" for m in measures)
    body.append(f"<h2>What the figures mean</h2><ul>{meanings}</ul>")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def summary(studies: Sequence[StudyText], measures: Sequence[Measure]) -> dict:
    """Means over the scans with intervals, and differences between all methods; ready for JSON."""
    methods = studies[0].methods
    means, differences = {}, {}
    for measure in measures:
        columns = {method: _column(studies, measure, method) for method in methods}
        means[measure.name] = {method: mean_with_interval(column).to_json() for method, column in columns.items()}
        differences[measure.name] = {
            f"{a} - {b}": mean_difference(columns[a], columns[b]).to_json() for b, a in combinations(methods, 2)
        }
    return {"means": means, "differences": differences}


def _column(studies: Sequence[StudyText], measure: Measure, method: str) -> list[float]:
    return [study.values[measure.name].get(method, float("nan")) for study in studies]


def _study_parts(study: Study, measures: Sequence[Measure]) -> Iterable[str]:
    facts = study.facts
    size = " x ".join(map(str, facts["size"]))
    spacing = "" if study.spacing is None else f" of {' x '.join(f'{s:.4g}' for s in facts['spacing_mm'])} mm"
    first = f"Compared: {size} voxels{spacing}, grey values {facts['window'][0]:g} to {facts['window'][1]:g} as 0 to 1."
    lines = [first, facts["window_reason"], *study.notes]
    yield f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
    for title, pictures in picture_rows(study):
        figures = "".join(map(_figure, pictures))
        yield f'<h3>{escape(title)}</h3><div class="row" style="--columns:{len(pictures)}">{figures}</div>'
    charts = (
        ("Agreement with the truth, from coarse to fine detail", fsc_chart(study)),
        ("Across the clearest edge of the middle slice", profile_chart(study)),
    )
    shown = "".join(f"<div><h3>{title}</h3>{svg}</div>" for title, svg in charts if svg)
    yield f'<div class="charts">{shown}</div>'
    yield f'<h3>Measures</h3><div class="wide">{_measures_table(study, measures)}</div>'
    for method, card in study.cards.items():
        yield f"<h3>What the result of {escape(method)} says of itself</h3>{_card_table(card)}"


def _figure(picture: Picture | None) -> str:
    if picture is None:
        return "<span></span>"
    caption = escape(picture.caption)
    return f'<figure><img src="{picture.address}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _measures_table(study: Study, measures: Sequence[Measure]) -> str:
    methods = list(study.images)
    rows = [f"<tr><th>Measure</th>{''.join(f'<th>{escape(m)}</th>' for m in methods)}<th>ideal</th></tr>"]
    for measure in measures:
        values = study.values[measure.name]
        if not any(np.isfinite(value) for value in values.values()):
            continue
        best = _best(measure, values)
        cells = "".join(
            f'<td class="{"best" if method in best else ""}">{_number(values[method], measure)}</td>'
            for method in methods
        )
        ideal = "more" if np.isinf(measure.best) else f"{measure.best:g}"
        label = f'<span title="{escape(measure.hint)}">{escape(measure.label)}</span>'
        unit = f" <small>{escape(measure.unit)}</small>" if measure.unit else ""
        rows.append(f"<tr><td>{label}{unit}</td>{cells}<td><small>{ideal}</small></td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _card_table(card: dict) -> str:
    rows = "".join(
        f'<tr><td><span title="{escape(f["hint"])}">{escape(f["label"])}</span></td><td>{escape(f["text"])}</td></tr>'
        for f in card["figures"]
    )
    warnings = "".join(f"<li>{escape(text)}</li>" for text in card["warnings"])
    return f"<table class='words'>{rows}</table><ul>{warnings}</ul><p class='hint'>{escape(card['assumptions'])}</p>"


def _means_table(studies: Sequence[StudyText], measures: Sequence[Measure]) -> str:
    """Means over the scans, and each method against cubic, or against the first."""
    methods = studies[0].methods
    base, others = methods[0], methods[1:]
    head = "".join(f"<th>{escape(m)}</th>" for m in methods)
    head += "".join(f"<th>{escape(m)} against {escape(base)}</th>" for m in others)
    head += "".join(f"<th>{escape(a)} against {escape(b)}</th>" for b, a in combinations(others, 2))
    rows = [f"<tr><th>Mean over {len(studies)} scans (95 % interval)</th>{head}</tr>"]
    for measure in measures:
        columns = {m: _column(studies, measure, m) for m in methods}
        if not np.isfinite([v for column in columns.values() for v in column]).any():
            continue
        cells = [_mean_text(mean_with_interval(columns[m]), measure) for m in methods]
        pairs = [(m, base) for m in others] + [(a, b) for b, a in combinations(others, 2)]
        cells += [_mean_text(mean_difference(columns[a], columns[b]), measure, sign=True) for a, b in pairs]
        unit = f" <small>{escape(measure.unit)}</small>" if measure.unit else ""
        rows.append(
            f'<tr><td><span title="{escape(measure.hint)}">{escape(measure.label)}</span>{unit}</td>'
            f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        )
    text = "Intervals by bootstrap over the scans (4000 resamples, fixed seed); of fewer than ten they are too narrow."
    return f'<div class="wide"><table class="means">{"".join(rows)}</table></div><p class="hint">{text}</p>'


def _scan_tables(studies: Sequence[StudyText], measures: Sequence[Measure]) -> Iterable[str]:
    """Each scan in a line, for the main measures."""
    methods = studies[0].methods
    for measure in (m for m in measures if m.name in MAIN):
        columns = {m: _column(studies, measure, m) for m in methods}
        if not np.isfinite([v for column in columns.values() for v in column]).any():
            continue
        unit = f" ({escape(measure.unit)})" if measure.unit else ""
        rows = [f"<tr><th>{escape(measure.label)}{unit}</th>{''.join(f'<th>{escape(m)}</th>' for m in methods)}</tr>"]
        for place, study in enumerate(studies):
            cells = "".join(f"<td>{_number(columns[m][place], measure)}</td>" for m in methods)
            rows.append(f"<tr><td>{escape(study.name)}</td>{cells}</tr>")
        yield f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _sentences(studies: Sequence[StudyText], method: str) -> Iterable[str]:
    """What came out for a method, in words."""

    def mean(name: str, of: str = method) -> float:
        values = [s.values[name][of] for s in studies if name in s.values and np.isfinite(s.values[name][of])]
        return float(np.mean(values)) if values else float("nan")

    gain = mean("psnr") - mean("psnr", CUBIC)
    if np.isfinite(gain):
        word = "closer to" if gain > 0 else "farther from"
        yield f"{method} is {word} the truth than cubic interpolation: PSNR {gain:+.2f} dB."
    ours, theirs = mean("thickness"), mean("thickness", CUBIC)
    if np.isfinite(ours) and np.isfinite(theirs):
        off, by_cubic = (f"{abs(e):.1f} % too {'thick' if e > 0 else 'thin'}" for e in (ours, theirs))
        yield f"{method} measures bone {off}; cubic interpolation {by_cubic}."
    ours, theirs = mean("fsc"), mean("fsc", CUBIC)
    if np.isfinite(ours) and np.isfinite(theirs):
        yield (
            f"{method} shows true detail up to {100 * ours:.0f} % of the finest that the reference can hold, cubic "
            f"interpolation up to {100 * theirs:.0f} %."
        )
    ours = mean("consistency")
    if np.isfinite(ours):
        verdict = "agrees with" if 0.9 <= ours <= 1.1 else "contradicts" if ours > 1.1 else "keeps noise of"
        yield f"{method} {verdict} the scan: scanned again, it differs by {ours:.2f} times the noise (truth: 1)."
    ours = mean("spurious")
    if np.isfinite(ours):
        yield f"{method} shows {ours:.1f} pieces of bone per cm3 that are not there."


def _best(measure: Measure, values: Mapping[str, float]) -> set[str]:
    """The methods that come nearest to the ideal, as far as the shown digits tell; none where only one is there."""
    shown = {name: round(value, measure.digits) for name, value in values.items() if not np.isnan(value)}
    if len(shown) < 2:
        return set()
    gaps = {name: -value if np.isinf(measure.best) else abs(value - measure.best) for name, value in shown.items()}
    return {name for name, gap in gaps.items() if gap <= min(gaps.values()) + 1e-12}


def _number(value: float, measure: Measure) -> str:
    return "&ndash;" if np.isnan(value) else f"{value:.{measure.digits}f}"


def _mean_text(mean: Mean, measure: Measure, sign: bool = False) -> str:
    if np.isnan(mean.value):
        return "&ndash;"
    form = f"{'+' if sign else ''}.{measure.digits}f"
    if np.isnan(mean.low):
        return f"{mean.value:{form}}"
    return f"{mean.value:{form}} <small>({mean.low:{form}} to {mean.high:{form}})</small>"

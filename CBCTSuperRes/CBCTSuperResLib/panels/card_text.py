"""A model card in words, as HTML for a window of details."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from slicer.i18n import tr as _

from ..models.card import ModelCard

LONGEST_VALUE = 400
FIRST_COLUMNS = ("metric", "model", "cubic")


def cardHtml(card: ModelCard) -> str:
    """Everything that a model's card tells people: what it is for, its limits, data, results, license, hash."""
    parts = [
        f"<h3>{escape(card.title or card.name)}</h3>",
        _paragraph("", cardSummary(card)),
        _paragraph("", card.summary),
        _paragraph(_("Limits"), card.limits),
        _paragraph(_("Network"), card.spec.network),
        _paragraph(_("Gray values"), _windowText(card)),
        _paragraph(_("Context"), _haloText(card)),
        _results(card.results),
        _facts(_("Training"), card.training),
        _paragraph(_("Written by"), card.created_with),
        _paragraph(_("File"), str(card.path or "")),
        _paragraph(_("Hash of the weights (SHA-256)"), card.weights_sha256),
    ]
    return "\n".join(part for part in parts if part)


def cardSummary(card: ModelCard) -> str:
    """What matters for choosing a model, in a line."""
    spec = card.spec
    way = _("{factor} in slices") if spec.dimensions == 2 else _("{factor} in blocks")
    facts = [way.format(factor=spec.scale_text)]
    if card.voxel_size_mm:
        smallest, largest = card.voxel_size_mm
        facts.append(_("trained for voxels of {lo:g} to {hi:g} mm").format(lo=smallest, hi=largest))
    facts.append(_("license: {license}").format(license=card.licence))
    return _("Model {name}: {facts}").format(name=card.name, facts=", ".join(facts))


def _paragraph(title: str, text: str) -> str:
    if not text:
        return ""
    return f"<p><b>{escape(title)}:</b> {escape(text)}</p>" if title else f"<p>{escape(text)}</p>"


def _windowText(card: ModelCard) -> str:
    if card.window is None:
        return _("no window of its own")
    return _("trained with a window from {lo:g} to {hi:g}").format(lo=card.window[0], hi=card.window[1])


def _haloText(card: ModelCard) -> str:
    if card.spec.context == "global":
        return _("looks at the whole slice, or volume, at once")
    if not card.spec.can_be_cut:
        return _("not measured, so that whole slices are computed at once")
    return _("looks {voxels} voxels far").format(voxels=card.spec.context)


def _results(results: list[dict]) -> str:
    """Tables of what was measured, one for each data set."""
    if not results:
        return ""
    groups: dict[str, list[dict]] = {}
    for result in results:
        groups.setdefault(str(result.get("data", "")), []).append(result)
    tables = "".join(f"<p><i>{escape(data)}</i></p>{_table(rows)}" for data, rows in groups.items())
    return f"<h4>{escape(_('Results'))}</h4>{tables}"


def _table(rows: list[dict]) -> str:
    found = dict.fromkeys(key for row in rows for key in row if key != "data")
    columns = sorted(found, key=lambda key: FIRST_COLUMNS.index(key) if key in FIRST_COLUMNS else len(FIRST_COLUMNS))
    head = "".join(f"<th align='left'>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{_cells(row.get(column, '') for column in columns)}</tr>" for row in rows)
    return f"<table cellpadding='3'><tr>{head}</tr>{body}</table>"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{escape(_text(value))}</td>" for value in values)


def _facts(title: str, facts: dict) -> str:
    if not facts:
        return ""
    lines = "".join(f"<li><b>{escape(str(key))}:</b> {escape(_text(value))}</li>" for key, value in facts.items())
    return f"<h4>{escape(title)}</h4><ul>{lines}</ul>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} …"

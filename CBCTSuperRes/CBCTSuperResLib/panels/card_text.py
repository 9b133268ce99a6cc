"""A model card in words, as HTML for a window of details."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from slicer.i18n import tr as _

from ..card import ModelCard

LONGEST_VALUE = 400


def cardHtml(card: ModelCard) -> str:
    """Everything that a model's card tells people: what it is for, its limits, data, results, license, hash."""
    parts = [
        f"<h3>{escape(card.title or card.name)}</h3>",
        _paragraph("", card.line),
        _paragraph("", card.summary),
        _paragraph(_("Limits"), card.limits),
        _paragraph(_("License"), card.licence),
        _paragraph(_("Gray values"), _windowText(card)),
        _paragraph(_("Context"), _haloText(card)),
        _results(card.results),
        _facts(_("Training"), card.training),
        _paragraph(_("Written by"), card.created_with),
        _paragraph(_("File"), str(card.path or "")),
        _paragraph(_("Hash of the weights (SHA-256)"), card.weights_sha256),
    ]
    return "\n".join(part for part in parts if part)


def _paragraph(title: str, text: str) -> str:
    if not text:
        return ""
    return f"<p><b>{escape(title)}:</b> {escape(text)}</p>" if title else f"<p>{escape(text)}</p>"


def _windowText(card: ModelCard) -> str:
    if card.window is None:
        return _("no window of its own")
    return _("trained with a window from {lo:g} to {hi:g}").format(lo=card.window[0], hi=card.window[1])


def _haloText(card: ModelCard) -> str:
    if card.spec.halo is None:
        return _("not measured, so that whole slices are computed at once")
    return _("looks {voxels} voxels far").format(voxels=card.spec.halo)


def _results(results: list[dict]) -> str:
    """A table with one row a measured result and the columns that occur."""
    if not results:
        return ""
    columns = list(dict.fromkeys(key for result in results for key in result))
    head = "".join(f"<th align='left'>{escape(column)}</th>" for column in columns)
    rows = "".join(f"<tr>{_cells(result.get(column, '') for column in columns)}</tr>" for result in results)
    return f"<h4>{escape(_('Results'))}</h4><table cellpadding='4'><tr>{head}</tr>{rows}</table>"


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

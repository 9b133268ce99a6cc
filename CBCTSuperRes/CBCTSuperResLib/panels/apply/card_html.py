"""A model card in words, as HTML for a window of details; whatever a card holds is escaped."""

from __future__ import annotations

import json
from html import escape

from slicer.i18n import tr as _

from ...models.card import ModelCard
from .texts import cardText

LONGEST_VALUE = 400
FIRST_COLUMNS = ("metric", "model", "cubic")


def cardHtml(card: ModelCard) -> str:
    """Everything that a model's card tells people: what it is for, its limits, data, results, license, hash."""
    if card.spec.context == "global":
        context = _("looks at the whole slice, or volume, at once")
    elif not card.spec.can_be_cut:
        context = _("not measured, so that whole slices are computed at once")
    else:
        context = _("looks {voxels} voxels far").format(voxels=card.spec.context)
    window = _("no window of its own")
    if card.window is not None:
        window = _("trained with a window from {lo:g} to {hi:g}").format(lo=card.window[0], hi=card.window[1])
    parts = [f"<h3>{escape(card.title or card.name)}</h3>"]
    parts += [f"<p>{escape(text)}</p>" for text in (cardText(card), card.summary) if text]
    facts = {
        _("Limits"): card.limits,
        _("Error bars"): card.error_bars,
        _("Network"): card.spec.network,
        _("Gray values"): window,
        _("Context"): context,
    }
    parts += _paragraphs(facts)
    if card.results:
        parts.append(f"<h4>{escape(_('Results'))}</h4>")
        for data in dict.fromkeys(str(result.get("data", "")) for result in card.results):
            parts.append(f"<p><i>{escape(data)}</i></p>")
            parts.append(_table([result for result in card.results if str(result.get("data", "")) == data]))
    if card.training:
        items = (f"<li><b>{escape(str(key))}:</b> {escape(_text(value))}</li>" for key, value in card.training.items())
        parts.append(f"<h4>{escape(_('Training'))}</h4><ul>{''.join(items)}</ul>")
    facts = {
        _("Written by"): card.created_with,
        _("File"): str(card.path or ""),
        _("Hash of the weights (SHA-256)"): card.weights_sha256,
    }
    return "\n".join(parts + _paragraphs(facts))


def _paragraphs(facts: dict[str, str]) -> list[str]:
    return [f"<p><b>{escape(title)}:</b> {escape(text)}</p>" for title, text in facts.items() if text]


def _table(rows: list[dict]) -> str:
    """What was measured on one data set; the columns that all tables have come first."""
    found = dict.fromkeys(key for row in rows for key in row if key != "data")
    columns = sorted(found, key=lambda key: FIRST_COLUMNS.index(key) if key in FIRST_COLUMNS else len(FIRST_COLUMNS))
    head = "".join(f"<th align='left'>{escape(column)}</th>" for column in columns)
    lines = ["".join(f"<td>{escape(_text(row.get(column, '')))}</td>" for column in columns) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table cellpadding='3'><tr>{head}</tr>{body}</table>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} …"

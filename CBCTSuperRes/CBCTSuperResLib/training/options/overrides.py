"""Changes to options from a command line: "train.lr_G=2e-4"."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from .keys import keys_of
from .kinds import Kind, json_or_text
from .sections import SECTIONS, Problems, unknown
from .training_options import section_type


def overridden(values: Mapping[str, Any], overrides: Sequence[str], problems: Problems) -> dict[str, Any]:
    """A copy of the JSON with "a.b=VALUE" entries set; VALUE is JSON, or a text without quotes."""
    values = copy.deepcopy(dict(values))
    for override in overrides:
        dotted, equals, text = override.partition("=")
        path = tuple(part.strip() for part in dotted.strip().split("."))
        if not equals or not all(path):
            problems.add(repr(override), "is not of the form key=value, such as train.lr_G=2e-4")
            continue
        known, value = _value(path, text.strip())
        if not known:
            problems.add(".".join(path), _suggestion(path, values.get("datasets")))
        else:
            _set(values, path, value)
    return values


def _value(path: tuple[str, ...], text: str) -> tuple[bool, Any]:
    """Whether the path names a key or a block, and the JSON that the text means there."""
    if section_type(path) or path == ("datasets",):
        return True, json_or_text(text)
    section = section_type(path[:-1])
    kinds: dict[str, Kind] = {one.name: key.kind for one, key in keys_of(section)} if section else {}
    if path[-1] in kinds:
        return True, kinds[path[-1]].from_text(text)
    table = section_type(path[:-2]) if len(path) > 2 else None
    if table and path[-2] in {one.name for one, key in keys_of(table) if key.kind.holds_tables}:
        return True, json_or_text(text)
    return False, None


def _set(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(values.get(part), dict):
            values[part] = {}
        values = values[part]
    values[path[-1]] = value


def _suggestion(path: tuple[str, ...], datasets: Any) -> str:
    names = dict.fromkeys([*map(str, datasets if isinstance(datasets, Mapping) else ()), "train", "val"])
    blocks = [(), *((name,) for name in SECTIONS if name != "datasets")]
    blocks += [("datasets", name) for name in names if section_type(("datasets", name))]
    known = [".".join((*block, one.name)) for block in blocks for one, _ in keys_of(section_type(block))]
    same_name = [key for key in known if key.rpartition(".")[2] == path[-1]]
    if same_name:
        return f"is not known; did you mean {get_close_matches('.'.join(path), same_name, 1, 0)[0]}?"
    return unknown(".".join(path), known)

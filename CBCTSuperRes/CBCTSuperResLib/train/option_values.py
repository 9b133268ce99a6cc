"""One key of the options: what its field says of it, and its values as Python, JSON and text.

Everything follows from the annotation and the metadata of a field (see `networks.options.option`). Beyond what networks
need, fields of a training's options may say

- `null`: what null means; otherwise the same as leaving the key out. None: the program chooses when it runs;
- `resumable`: whether a run may be resumed with another value and still be the same run;
- `path`: texts are paths; of a tuple, one path may stand without a list;
- `auto`: "auto" stands for None in JSON;
- `refused`: values that are known but not offered, and why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

LARGEST = 1e15  # up to here floats are exact whole numbers
AS_ABSENT = object()
NAMES = {bool: "true, false", int: "whole number", float: "number", str: "text", dict: "table", NoneType: "null"}
SCHEMA_TYPES = {bool: ["boolean", "integer"], int: "integer", float: "number", str: "string", dict: "object"}


@dataclass(frozen=True)
class Key:
    """A key of a block.

    Attributes
    ----------
    name : str
    kind : type
        bool, int, float, str, dict or NoneType; of a list the type of its items.
    length : int or None
        Of a list; -1 for any length. None: no list.
    default : object
    rules : mapping
        The field's metadata.
    """

    name: str
    kind: type
    length: int | None
    default: Any
    rules: Mapping[str, Any]

    @property
    def meaning(self) -> str:
        return self.rules["meaning"]

    @property
    def seed(self) -> bool:
        """Whether UNetSPSR's own tables have it; otherwise it is ours."""
        return self.rules["seed"]

    @property
    def null(self) -> Any:
        """What null means; `AS_ABSENT` if it is the default."""
        return self.rules.get("null", AS_ABSENT)

    @property
    def resumable(self) -> bool:
        return self.rules.get("resumable", False)

    @property
    def is_path(self) -> bool:
        return self.rules.get("path", False)

    @property
    def choices(self) -> tuple:
        found = self.rules.get("choices", ())
        return tuple(found() if callable(found) else found)

    def read(self, value: Any) -> Any:
        """The value that JSON means.

        Raises
        ------
        ValueError
            With the end of a sentence that begins with the key.
        """
        if self.length is None:
            return self._read_one(value)
        if value == "auto" and self.rules.get("auto"):
            return None
        items = [value] if self.is_path and isinstance(value, str) else value
        if not isinstance(items, list | tuple) or self.length not in (-1, len(items)):
            raise ValueError(f"must be {'an' if self._ascending else 'a'} {self}, not {shown(value)}")
        if self.is_path and not items:
            raise ValueError("must be a path or a list of paths, not an empty list")
        found = tuple(map(self._read_one, items))
        if self._ascending and any(a >= b for a, b in zip(found, found[1:], strict=False)):
            raise ValueError(f"must ascend, unlike {shown(value)}")
        if self.rules.get("auto") and len(set(found)) < len(found):
            raise ValueError(f"names a device twice: {shown(value)}")
        return found

    def _read_one(self, value: Any) -> Any:
        if isinstance(value, str) and value in self.rules.get("refused", {}):
            raise ValueError(f"is {value!r}: {self.rules['refused'][value]}")
        if self.choices:
            for choice in self.choices:
                if choice == value and isinstance(choice, str | bool) == isinstance(value, str | bool):
                    return choice
            wanted = [shown(choice) for choice in self.choices]
            wanted = " or ".join(wanted) if len(wanted) < 3 else f"one of {', '.join(wanted)}"
            raise ValueError(f"must be {wanted}, not {shown(value)}")
        if self.kind is NoneType:
            raise ValueError(f"must be null, not {shown(value)}: {self.rules['reason']}")
        if self.kind is bool:
            if isinstance(value, bool | int) and value in (0, 1):
                return bool(value)
            raise ValueError(f"must be true or false, not {shown(value)}")
        if self.kind is dict:
            if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
                return dict(value)
            raise ValueError(f"must be a table {{...}}, not {shown(value)}")
        if self.kind is str:
            if isinstance(value, str) and value.strip():
                return str(Path(value).expanduser()) if self.is_path and value.startswith("~") else value
            raise ValueError(f"must be a {self._item_text}, not {shown(value)}")
        number = isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
        inside = number and all(
            compare(value, self.rules[rule]) for rule, (_, compare) in BOUNDS.items() if rule in self.rules
        )
        if not inside or (self.kind is int and value != int(value)):
            raise ValueError(f"must be a {self._item_text}, not {shown(value)}")
        return self.kind(value)

    def write(self, value: Any) -> Any:
        """The JSON of a value that `read` returned, or of the default."""
        if self.length is None:
            return dict(value) if self.kind is dict else value
        if value is None:
            return "auto" if self.rules.get("auto") else None
        if self.is_path:
            return list(value) if len(value) > 1 else value[0] if value else None
        return list(value)

    def value_of_text(self, text: str) -> Any:
        """The JSON that a text means, typed by people, who may leave out the quotes."""
        value = json_or_text(text)
        if self.kind is not str or value is None or isinstance(value, str) or value in self.choices:
            return value
        return value if self.length is not None and isinstance(value, list) else text

    def schema(self) -> dict:
        """The part of a JSON schema (draft 2020-12) that describes it; null apart."""
        if self.choices:
            one = {"enum": list(self.choices)}
        elif self.kind is NoneType:
            one = {"type": "null"}
        else:
            one = {"type": SCHEMA_TYPES[self.kind]}
            one |= {"minimum": 0, "maximum": 1} if self.kind is bool else {}
            one |= {"minLength": 1} if self.kind is str else {}
            one |= {SCHEMA_BOUNDS[rule]: self.rules[rule] for rule in BOUNDS if rule in self.rules}
        if self.length is None:
            return one
        several = {"type": "array", "items": one}
        if self.length > 0:
            several |= {"minItems": self.length, "maxItems": self.length}
        if self.rules.get("auto"):
            return {"anyOf": [{"const": "auto"}, {**several, "uniqueItems": True}]}
        return {"anyOf": [one, {**several, "minItems": 1}]} if self.is_path else several

    def __str__(self) -> str:
        """What it accepts, for people."""
        if self.length is None:
            return self._item_text
        if self.rules.get("auto"):
            return "list of GPU numbers, or auto"
        if self.is_path:
            return "path, or list of paths"
        count = "list" if self.length < 0 else f"list of {self.length}"
        return f"{'ascending ' if self._ascending else ''}{count}: {self._item_text}"

    def only_in(self, networks: list[str]) -> Key:
        """The same key, saying which networks have it."""
        return replace(self, rules={**self.rules, "meaning": f"{self.meaning} Only in {' and '.join(networks)}."})

    def unlike(self, others: Mapping[str, Key]) -> Key:
        """The same key, saying which networks have another default."""
        told = " and ".join(f"{shown(key.write(key.default))} in {whose}" for whose, key in others.items())
        return replace(self, rules={**self.rules, "meaning": f"{self.meaning} By default {told}."})

    def or_as(self, other: Key) -> Key:
        """The same key, accepting what either does: networks share names."""
        rules = dict(self.rules)
        for rule, widest in (("minimum", min), ("maximum", max)):
            if rule in rules and rule in other.rules:
                rules[rule] = widest(rules[rule], other.rules[rule])
            else:
                rules.pop(rule, None)
        if self.choices:
            rules["choices"] = tuple(dict.fromkeys([*self.choices, *other.choices]))
        return replace(self, rules=rules)

    @property
    def _item_text(self) -> str:
        if self.choices:
            return ", ".join(map(str, self.choices))
        bounds = [f"{sign} {self.rules[rule]:g}" for rule, (sign, _) in BOUNDS.items() if rule in self.rules]
        name = "path" if self.is_path else NAMES[self.kind]
        return f"{name} {', '.join(bounds)}".strip()

    @property
    def _ascending(self) -> bool:
        return self.rules.get("ascending", False)


BOUNDS = {
    "minimum": (">=", lambda value, bound: value >= bound),
    "maximum": ("<=", lambda value, bound: value <= bound),
    "above": (">", lambda value, bound: value > bound),
    "below": ("<", lambda value, bound: value < bound),
}
SCHEMA_BOUNDS = {"minimum": "minimum", "maximum": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


@lru_cache
def keys_of(section: type) -> dict[str, Key]:
    """The keys of a dataclass of options by name, in order; fields without a meaning, and derived ones, are none."""
    hints, found = get_type_hints(section), {}
    for one in fields(section):
        if "meaning" not in one.metadata or one.metadata.get("derived"):
            continue
        kind, length = hints[one.name], None
        if NoneType in get_args(kind):  # X | None
            kind = next(part for part in get_args(kind) if part is not NoneType)
        if get_origin(kind) is tuple:
            items = get_args(kind)
            kind, length = items[0], -1 if items[-1] is Ellipsis else len(items)
        default = one.default if one.default is not MISSING else one.default_factory()
        found[one.name] = Key(one.name, kind, length, default, one.metadata)
    return found


def shown(value: Any) -> str:
    """A value as it stands in JSON; numbers short."""
    if isinstance(value, float) and isfinite(value):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def json_or_text(text: str) -> Any:
    """What JSON the text is; the text itself if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def text_of_value(value: Any) -> str:
    """JSON as people type it: texts without quotes, nothing for null; `Key.value_of_text` gives it back."""
    if value is None or isinstance(value, str):
        return value or ""
    return shown(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)

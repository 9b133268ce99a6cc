"""Kinds of values an option can have: each reads JSON, writes it back, and describes itself to people and editors.

How a section of the JSON is written down: a frozen dataclass whose fields are keys with a kind and a meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Any

LARGEST = 1e15  # up to here floats are exact whole numbers


class Kind:
    """What values a key accepts. `read` raises ValueError with the end of a sentence that begins with the key."""

    holds_tables = False

    def read(self, value: Any) -> Any:
        raise NotImplementedError

    def write(self, value: Any) -> Any:
        """The JSON of a value that `read` returned, or of the key's default."""
        return value

    def schema(self) -> dict:
        raise NotImplementedError

    def __str__(self) -> str:
        raise NotImplementedError

    def from_text(self, text: str) -> Any:
        """JSON from a command line, where texts may stand without quotes."""
        return json_or_text(text)


@dataclass(frozen=True)
class Flag(Kind):
    """true or false; 1 and 0 mean the same."""

    def read(self, value: Any) -> bool:
        if isinstance(value, bool | int) and value in (0, 1):
            return bool(value)
        raise ValueError(f"must be true or false, not {shown(value)}")

    def schema(self) -> dict:
        return {"type": ["boolean", "integer"], "minimum": 0, "maximum": 1}

    def __str__(self) -> str:
        return "true, false"


@dataclass(frozen=True)
class Number(Kind):
    """A finite number from `minimum` to `maximum`; `above` and `below` are bounds that are not reached."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def read(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
            raise ValueError(f"must be {self._article}, not {shown(value)}")
        low = (self.minimum is None or value >= self.minimum) and (self.above is None or value > self.above)
        high = (self.maximum is None or value <= self.maximum) and (self.below is None or value < self.below)
        if not (low and high):
            raise ValueError(f"must be {self._article}, not {shown(value)}")
        return self._convert(value)

    def schema(self) -> dict:
        bounds = {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "exclusiveMinimum": self.above,
            "exclusiveMaximum": self.below,
        }
        return {"type": self._type, **{name: bound for name, bound in bounds.items() if bound is not None}}

    def __str__(self) -> str:
        signs = {">=": self.minimum, "<=": self.maximum, ">": self.above, "<": self.below}
        bounds = [f"{sign} {bound:g}" for sign, bound in signs.items() if bound is not None]
        return " ".join([self._name, ", ".join(bounds)]).strip()

    _type = _name = "number"

    @property
    def _article(self) -> str:
        return f"a {self}"

    def _convert(self, value: float) -> float:
        return float(value)


class Whole(Number):
    """A whole number; 5e3 is one."""

    _type, _name = "integer", "whole number"

    def _convert(self, value: float) -> int:
        if value != int(value):
            raise ValueError(f"must be {self._article}, not {shown(value)}")
        return int(value)


@dataclass(frozen=True)
class Text(Kind):
    """A text, or one of a few.

    Attributes
    ----------
    choices : tuple
        What is accepted; empty for any text. Numbers may be among them.
    refused : mapping of str to str
        Values that are known but not offered, and why.
    """

    choices: tuple = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: Any) -> Any:
        if isinstance(value, str) and value in self.refused:
            raise ValueError(f"is {value!r}: {self.refused[value]}")
        if not self.choices:
            if isinstance(value, str) and value.strip():
                return value
            raise ValueError(f"must be a text, not {shown(value)}")
        for choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        raise ValueError(f"must be {' or '.join(map(shown, self.choices))}, not {shown(value)}")

    def schema(self) -> dict:
        return {"enum": list(self.choices)} if self.choices else {"type": "string", "minLength": 1}

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) or "text"

    def from_text(self, text: str) -> Any:
        value = json_or_text(text)
        keep = value is None or isinstance(value, str) or value in self.choices
        return value if keep else text


@dataclass(frozen=True)
class OnlyNull(Kind):
    """A key that exists and can only be null.

    Attributes
    ----------
    reason : str
    """

    reason: str

    def read(self, value: Any) -> None:
        raise ValueError(f"must be null, not {shown(value)}: {self.reason}")

    def schema(self) -> dict:
        return {"type": "null"}

    def __str__(self) -> str:
        return "null"


class PathText(Text):
    """A path as text, ~ expanded and otherwise untouched, so that Windows paths stay as they are everywhere."""

    def read(self, value: Any) -> str:
        return str(Path(text).expanduser()) if (text := super().read(value)).startswith("~") else text

    def __str__(self) -> str:
        return "path"


class Paths(PathText):
    """One path or a list of them; always a tuple once it is read."""

    def read(self, value: Any) -> tuple[str, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        if not items:
            raise ValueError("must be a path or a list of paths, not an empty list")
        return tuple(PathText.read(self, item) for item in items)

    def write(self, value: tuple[str, ...]) -> Any:
        return list(value) if len(value) > 1 else value[0] if value else None

    def schema(self) -> dict:
        one = super().schema()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}

    def __str__(self) -> str:
        return "path, or list of paths"

    def from_text(self, text: str) -> Any:
        value = json_or_text(text)
        return value if value is None or isinstance(value, list | str) else text


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of values of one kind; a tuple once it is read.

    Attributes
    ----------
    item : Kind
    length : int or None
        None for any.
    ascending : bool
        Whether each value must be larger than the one before.
    """

    item: Kind
    length: int | None = None
    ascending: bool = False

    def read(self, value: Any) -> tuple:
        if not isinstance(value, list | tuple) or self.length not in (None, len(value)):
            raise ValueError(f"must be {self._article}, not {shown(value)}")
        items = tuple(self.item.read(item) for item in value)
        if self.ascending and any(a >= b for a, b in zip(items, items[1:], strict=False)):
            raise ValueError(f"must ascend, unlike {shown(value)}")
        return items

    def write(self, value: tuple | None) -> list | None:
        return None if value is None else [self.item.write(item) for item in value]

    def schema(self) -> dict:
        size = {} if self.length is None else {"minItems": self.length, "maxItems": self.length}
        return {"type": "array", "items": self.item.schema(), **size}

    def __str__(self) -> str:
        count = "list" if self.length is None else f"list of {self.length}"
        return f"{'ascending ' if self.ascending else ''}{count}: {self.item}"

    @property
    def _article(self) -> str:
        return f"an {self}" if self.ascending else f"a {self}"


class DeviceNumbers(ListOf):
    """GPU numbers; [] means the CPU (also null). None once it is read, "auto" in JSON: whatever is there."""

    def read(self, value: Any) -> tuple[int, ...] | None:
        if value == "auto":
            return None
        numbers = super().read(value)
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"names a device twice: {shown(value)}")
        return numbers

    def write(self, value: tuple[int, ...] | None) -> Any:
        return "auto" if value is None else list(value)

    def schema(self) -> dict:
        return {"anyOf": [{"const": "auto"}, {**super().schema(), "uniqueItems": True}]}

    def __str__(self) -> str:
        return "list of GPU numbers, or auto"


@dataclass(frozen=True)
class Table(Kind):
    """A free table of names and values."""

    holds_tables = True

    def read(self, value: Any) -> dict:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return dict(value)
        raise ValueError(f"must be a table {{...}}, not {shown(value)}")

    def schema(self) -> dict:
        return {"type": "object"}

    def __str__(self) -> str:
        return "table"


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


AS_ABSENT = object()


@dataclass(frozen=True)
class Key:
    """What is known of a key.

    Attributes
    ----------
    kind : Kind
    meaning : str
        For people: one or two sentences.
    ours : bool
        False for the keys of UNetSPSR's own tables.
    null : object
        What null means; `AS_ABSENT`: the same as leaving the key out; None: the program chooses when it runs.
    resumable : bool
        Whether a run may be resumed with another value and still be the same run.
    """

    kind: Kind
    meaning: str
    ours: bool
    null: Any
    resumable: bool


def seed(kind: Kind, default: Any, meaning: str, *, null: Any = AS_ABSENT, resumable: bool = False) -> Any:
    """A field for a key of UNetSPSR's tables; the default is its example's value."""
    return _field(kind, default, meaning, False, null, resumable)


def ours(kind: Kind, default: Any, meaning: str, *, null: Any = AS_ABSENT, resumable: bool = False) -> Any:
    """A field for a key of our own; its default leaves UNetSPSR's JSON as it is."""
    return _field(kind, default, meaning, True, null, resumable)


def keys_of(section: Any) -> Iterator[tuple[Field, Key]]:
    """Fields of a section (class or instance) that are keys of the JSON with a value, in order."""
    for one in fields(section):
        if "key" in one.metadata:
            yield one, one.metadata["key"]


def default_of(one: Field) -> Any:
    return one.default_factory() if callable(one.default_factory) else one.default


def write_section(section: Any) -> dict:
    """The JSON of a section: its keys, and the sections within it."""
    values = {}
    for one in fields(section):
        value = getattr(section, one.name)
        if "key" in one.metadata:
            values[one.name] = one.metadata["key"].kind.write(value)
        elif is_dataclass(value):
            values[one.name] = write_section(value)
        elif "sections" in one.metadata:
            values[one.name] = {name: write_section(inner) for name, inner in value.items()}
    return values


def _field(kind: Kind, default: Any, meaning: str, is_ours: bool, null: Any, resumable: bool) -> Any:
    metadata = {"key": Key(kind, meaning, is_ours, null, resumable)}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)

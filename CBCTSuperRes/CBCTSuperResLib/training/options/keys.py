"""How a section of the JSON is written down: a frozen dataclass whose fields are keys with a kind and a meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from .kinds import Kind

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

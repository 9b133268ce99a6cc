"""From JSON to the tree of options: every problem is noted, none ends the reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from .keys import AS_ABSENT, default_of, keys_of
from .training_options import TrainingOptions, phase_of, section_type

SECTIONS = ("datasets", "path", "network_G", "network_D", "network_D_grad", "train", "logger", "card")
UNREAD = {"$schema"}  # an editor's entry


@dataclass
class Problems:
    """What is wrong, in order, and which keys are therefore not to be judged any further.

    Attributes
    ----------
    found : list of (keys, sentence)
        The keys that a sentence is about; the first is the one to look at.
    keys : set of str
        Those that are wrong by themselves.
    """

    found: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.found]

    def add(self, key: str, text: str) -> None:
        self.found.append(((key,), f"{key} {text}" if text.endswith("?") else f"{key} {text}."))
        self.keys.add(key)

    def add_unless_known(self, keys: Iterable[str], text: str) -> None:
        """For checks of several keys: silent where one of them was already found wrong."""
        if not self.keys & set(keys):
            self.found.append((tuple(keys), text))


def read_tree(values: Mapping[str, Any], problems: Problems, is_train: bool) -> TrainingOptions:
    """Build the options; a key with a problem gets its default. Every key of a mapping counts as text."""
    values = {key: value for key, value in values.items() if key not in UNREAD}
    top = _read_keys(TrainingOptions, (), values, problems, inner=SECTIONS)
    tables = {name: _table(values, (name,), problems) for name in SECTIONS}
    gradient = tables["network_D_grad"]
    if gradient:
        said = {key: value for key, value in gradient.items() if value is not None}
        tables["network_D_grad"] = {**tables["network_D"], **said}
    read = {name: _read_section((name,), table, problems) for name, table in tables.items() if name != "datasets"}
    if not gradient:
        read["network_D_grad"] = None
    datasets = _read_datasets(tables["datasets"], problems)
    return TrainingOptions(**top, **read, datasets=datasets, is_train=is_train)


def unknown(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not among those known."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6) or [
        other for other in known if other.lower() == name.lower()
    ]
    return f"is not known; did you mean {close[0]}?" if close else "is not known"


def _read_datasets(tables: Mapping[str, Any], problems: Problems) -> dict:
    datasets = {}
    for key in map(str, tables):
        path = ("datasets", key)
        if phase_of(key) is None:
            problems.add(".".join(path), "is not known; the blocks are train, val, and test or test_...")
        elif tables.get(key) is not None:
            datasets[key] = _read_section(path, _table(tables, path, problems), problems, phase=phase_of(key))
    return datasets


def _table(values: Mapping[str, Any], path: tuple[str, ...], problems: Problems) -> Mapping[str, Any]:
    """A block within `values`; empty if absent, null or something else."""
    table = values.get(path[-1])
    if table is None or isinstance(table, Mapping):
        return table or {}
    problems.add(".".join(path), "must be a block {...}")
    return {}


def _read_section(path: tuple[str, ...], values: Mapping[str, Any], problems: Problems, **more: Any) -> Any:
    section = section_type(path)
    return section(**_read_keys(section, path, values, problems), **more)


def _read_keys(
    section: type, path: tuple[str, ...], values: Mapping[str, Any], problems: Problems, inner: Iterable[str] = ()
) -> dict[str, Any]:
    keys = {one.name: (one, key) for one, key in keys_of(section)}
    for name in map(str, values):
        if name not in keys and name not in inner:
            problems.add(".".join((*path, name)), _advice(name, path, [*keys, *inner]))
    return {
        name: _read_value(".".join((*path, name)), one, key, values.get(name, AS_ABSENT), problems)
        for name, (one, key) in keys.items()
    }


def _read_value(dotted: str, one: Any, key: Any, value: Any, problems: Problems) -> Any:
    if value is None:
        value = key.null
        if value is not AS_ABSENT:
            return value
    if value is AS_ABSENT:
        return default_of(one)
    try:
        return key.kind.read(value)
    except ValueError as error:
        problems.add(dotted, str(error))
        return default_of(one)


def _advice(name: str, path: tuple[str, ...], known: list[str]) -> str:
    """Prefer the place that has this very name: a key may have slipped into the wrong block."""
    if path[:1] == ("datasets",) and any(one.name == name for one in fields(section_type(("datasets", "train")))):
        return "belongs to datasets.train only"
    homes = [
        ".".join((*home, name)) for home in _homes() if any(o.name == name for o, _ in keys_of(section_type(home)))
    ]
    if homes and not get_close_matches(name, known, n=1, cutoff=0.85):
        return f"is in the wrong block; did you mean {homes[0]}?"
    return unknown(name, known)


def _homes() -> list[tuple[str, ...]]:
    return [("train",), ("datasets", "train"), ("network_G",), ("network_D",), ("logger",), ("path",), ()]

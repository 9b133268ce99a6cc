"""JSON with // comments, as UNetSPSR's option files have them; errors say where.

From JSON to the tree of options: every problem is noted, none ends the reading.

Changes to options from a command line: "train.lr_G=2e-4".
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from ..core.errors import OptionError
from .option_kinds import AS_ABSENT, Kind, default_of, json_or_text, keys_of
from .options import TrainingOptions, phase_of, section_type

# A string is matched first, and so keeps the slashes within it.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*')


def without_comments(text: str) -> str:
    """Blank every // comment outside strings; each remaining character keeps its line and column."""
    return _STRING_OR_COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else " " * len(m[0]), text)


def parse_json(text: str, where: str) -> Any:
    """Parse JSON with comments.

    Raises
    ------
    OptionError
        If it is broken or names a key twice; the message has line and column of `where`.
    """
    try:
        return json.loads(
            without_comments(text.removeprefix("\ufeff")), object_pairs_hook=_unique, parse_constant=_refuse
        )
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1].strip() if text.strip() else ""
        shown = f" ({line[:60]})" if line else ""
        raise OptionError(
            f"{where} is not valid JSON: {error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}, "
            f"column {error.colno}{shown}.",
            _advice(error),
        ) from None
    except _Refused as error:
        raise OptionError(f"{where}: {error}.") from None
    except RecursionError:
        raise OptionError(f"{where} is nested too deeply to be a file of options.") from None


class _Refused(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _Refused(f"{', '.join(twice)} stands twice in the same block; keep one")
    return table


def _refuse(name: str) -> None:
    raise _Refused(f"{name} is no number")


def _advice(error: json.JSONDecodeError) -> str:
    if "escape" in error.msg.lower():
        return r'In JSON a backslash is written twice: "C:\\scans". A / works as well.'
    if "property name" in error.msg:
        return "Look for a comma after the last entry of a block."
    return "Look for a missing comma, quote or bracket at or before this place."


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
            problems.add(".".join((*path, name)), _advice_sections(name, path, [*keys, *inner]))
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


def _advice_sections(name: str, path: tuple[str, ...], known: list[str]) -> str:
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

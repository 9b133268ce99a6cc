"""The options as a JSON schema, for editors and panels; Resources/Configurations/training.schema.json holds it.

    python -m CBCTSuperResLib.train.options_schema FILE

writes it anew after a key has changed.

The table of all keys for README.md.

    python -m CBCTSuperResLib.train.options_schema

prints it.

Every key of a training's options by its full name, for a table that people fill in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .option_kinds import Key, default_of, keys_of, shown
from .options import (
    CardOptions,
    DatasetOptions,
    DiscriminatorOptions,
    GeneratorOptions,
    LoggerOptions,
    PathOptions,
    TrainDatasetOptions,
    TrainingOptions,
    TrainOptions,
    section_type,
)

SCHEMA = "Configurations/training.schema.json"


def schema() -> dict:
    """JSON schema (draft 2020-12) of a training's or test's options; of the keys one by one, not of their harmony."""
    top = _block(TrainingOptions)
    blocks = {
        "datasets": {
            "type": "object",
            "description": "The sets of images: train and val, or test_1, test_2 ...",
            "properties": {"train": _block(TrainDatasetOptions), "val": _nullable(_block(DatasetOptions))},
            "patternProperties": {"^test(_.*)?$": _nullable(_block(DatasetOptions))},
            "additionalProperties": False,
        },
        "path": _block(PathOptions),
        "network_G": _block(GeneratorOptions),
        "network_D": _block(DiscriminatorOptions),
        "network_D_grad": _nullable(
            {
                **_block(DiscriminatorOptions),
                "description": "The discriminator of gradient maps; what is left out is as in network_D. Ours.",
            }
        ),
        "train": _block(TrainOptions),
        "logger": _block(LoggerOptions),
        "card": _block(CardOptions),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of CBCT Super-Resolution's train and test",
        **top,
        "properties": {"$schema": {"type": "string"}, **top["properties"], **blocks},
        "required": ["datasets"],
    }


def schema_text() -> str:
    """What the file holds."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _block(section: type) -> dict:
    properties = {one.name: _property(key, default_of(one)) for one, key in keys_of(section)}
    return {
        "type": "object",
        "description": section.__doc__.partition("\n")[0],
        "properties": properties,
        "additionalProperties": False,
    }


def _property(key: Key, default: object) -> dict:
    mark = " Ours." if key.ours else ""
    return {**_nullable(key.kind.schema()), "description": key.meaning + mark, "default": key.kind.write(default)}


def _nullable(values: dict) -> dict:
    """Also null, which every key and most blocks accept."""
    if "enum" in values:
        return {**values, "enum": [*values["enum"], None]}
    if "anyOf" in values:
        return {**values, "anyOf": [*values["anyOf"], {"type": "null"}]}
    kinds = values["type"] if isinstance(values["type"], list) else [values["type"]]
    return {**values, "type": list(dict.fromkeys([*kinds, "null"]))}


HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"


def markdown_table() -> str:
    """Every key with type, default and meaning; a dagger marks the keys that UNetSPSR's own tables do not have."""
    return HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    shared = {one.name for one, _ in keys_of(DatasetOptions)}
    yield from _block_table("", TrainingOptions)
    yield from _block_table("datasets.*.", DatasetOptions)
    yield from _block_table("datasets.train.", TrainDatasetOptions, without=shared)
    yield from _block_table("path.", PathOptions)
    yield from _block_table("network_G.", GeneratorOptions)
    yield from _block_table("network_D.", DiscriminatorOptions)
    yield _row("network_D_grad †", "block", "`null`", "As network_D, for gradient maps; what is left out is as there.")
    yield from _block_table("train.", TrainOptions)
    yield from _block_table("logger.", LoggerOptions)
    yield from _block_table("card.", CardOptions)


def _block_table(prefix: str, section: type, without: set[str] = frozenset()) -> Iterator[str]:
    for one, key in keys_of(section):
        if one.name not in without:
            name = f"{prefix}{one.name}{' †' if key.ours else ''}"
            yield _row(name, str(key.kind), f"`{shown(key.kind.write(default_of(one)))}`", key.meaning)


def _row(name: str, kind: str, default: str, meaning: str) -> str:
    name, *dagger = name.split(" ")
    cells = (" ".join([f"`{name}`", *dagger]), kind, default, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


SECTIONS = (
    (),
    ("datasets", "train"),
    ("datasets", "val"),
    ("path",),
    ("network_G",),
    ("network_D",),
    ("train",),
    ("logger",),
    ("card",),
)


@dataclass(frozen=True)
class Entry:
    """A key and where it stands.

    Attributes
    ----------
    name : str
        Such as "datasets.train.HR_size".
    key : Key
    default : object
        As JSON.
    """

    name: str
    key: Key
    default: Any

    @property
    def text(self) -> str:
        """What the key means, what it accepts and what it is without being given."""
        origin = " Not among UNetSPSR's own options." if self.key.ours else ""
        return f"{self.key.meaning}{origin} Accepts: {self.key.kind}; default: {shown(self.default)}."


def catalogue() -> Iterator[Entry]:
    """The keys in the order of the JSON; the blocks of tests and network_D_grad are left out."""
    for path in SECTIONS:
        for one, key in keys_of(section_type(path)):
            yield Entry(".".join((*path, one.name)), key, key.kind.write(default_of(one)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8", newline="\n")
    else:
        print(markdown_table())

"""What is made of the options' fields: the JSON schema, the table of the documentation, and the table of the panel.

    python -m CBCTSuperResLib.train.options_schema [FILE]

prints the table of all keys in Markdown, or writes the schema anew into FILE, which is
Resources/Configurations/training.schema.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .dataset_options import DatasetOptions, TrainDatasetOptions
from .option_values import Key, shown
from .options import BLOCKS, TrainingOptions, keys_at

SCHEMA = "Configurations/training.schema.json"
HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"


def schema() -> dict:
    """JSON schema (draft 2020-12) of a training's or test's options; of the keys one by one, not of their harmony."""
    top = _block((), TrainingOptions)
    blocks = {
        "datasets": {
            "type": "object",
            "description": "The sets of images: train and val, or test_1, test_2 ...",
            "properties": {
                "train": _block(("datasets", "train"), TrainDatasetOptions),
                "val": _nullable(_block(("datasets", "val"), DatasetOptions)),
            },
            "patternProperties": {"^test(_.*)?$": _nullable(_block(("datasets", "test"), DatasetOptions))},
            "additionalProperties": False,
        },
        **{name: _block((name,), section) for name, section in BLOCKS.items()},
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


def _block(path: tuple[str, ...], section: type) -> dict:
    properties = {
        name: {
            **_nullable(key.schema()),
            "description": key.meaning + ("" if key.seed else " Ours."),
            "default": key.write(key.default),
        }
        for name, key in keys_at(path).items()
    }
    return {
        "type": "object",
        "description": section.__doc__.partition("\n")[0],
        "properties": properties,
        "additionalProperties": False,
    }


def _nullable(values: dict) -> dict:
    """Also null, which every key and most blocks accept."""
    if "enum" in values:
        return {**values, "enum": [*values["enum"], None]}
    if "anyOf" in values:
        return {**values, "anyOf": [*values["anyOf"], {"type": "null"}]}
    kinds = values["type"] if isinstance(values["type"], list) else [values["type"]]
    return {**values, "type": list(dict.fromkeys([*kinds, "null"]))}


def markdown_table() -> str:
    """Every key with type, default and meaning; a dagger marks the keys that UNetSPSR's own tables do not have."""
    shared = keys_at(("datasets", "val"))
    blocks = {
        "": keys_at(()),
        "datasets.*.": shared,
        "datasets.train.": {name: key for name, key in keys_at(("datasets", "train")).items() if name not in shared},
        **{f"{name}.": keys_at((name,)) for name in BLOCKS},
    }
    rows = []
    for prefix, keys in blocks.items():
        for name, key in keys.items():
            dagger, default = "" if key.seed else " †", shown(key.write(key.default))
            cells = (f"`{prefix}{name}`{dagger}", str(key), f"`{default}`", key.meaning)
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return HEAD + "".join(rows)


@dataclass(frozen=True)
class Entry:
    """A key and where it stands, such as "datasets.train.HR_size"."""

    name: str
    key: Key

    @property
    def text(self) -> str:
        """What the key means, what it accepts and what it is without being given."""
        origin = "" if self.key.seed else " Not among UNetSPSR's own options."
        default = shown(self.key.write(self.key.default))
        return f"{self.key.meaning}{origin} Accepts: {self.key}; default: {default}."


def catalogue() -> Iterator[Entry]:
    """Every key in the order of the JSON, for a table that people fill in; the blocks of tests are left out."""
    for path in ((), ("datasets", "train"), ("datasets", "val"), *((name,) for name in BLOCKS)):
        for name, key in keys_at(path).items():
            yield Entry(".".join((*path, name)), key)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8", newline="\n")
    else:
        print(markdown_table())

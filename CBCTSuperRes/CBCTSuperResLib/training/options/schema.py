"""The options as a JSON schema, for editors and panels; Resources/Configurations/training.schema.json holds it.

    python -m CBCTSuperResLib.training.options.schema FILE

writes it anew after a key has changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .card_keys import CardOptions
from .data_keys import DatasetOptions, TrainDatasetOptions
from .keys import Key, default_of, keys_of
from .network_keys import DiscriminatorOptions, GeneratorOptions
from .train_keys import LoggerOptions, PathOptions, TrainOptions
from .training_options import TrainingOptions

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


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8", newline="\n")

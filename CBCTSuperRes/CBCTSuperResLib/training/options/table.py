"""The table of all keys for README.md.

    python -m CBCTSuperResLib.training.options.table

prints it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .card_keys import CardOptions
from .data_keys import DatasetOptions, TrainDatasetOptions
from .keys import default_of, keys_of
from .kinds import shown
from .network_keys import DiscriminatorOptions, GeneratorOptions
from .train_keys import LoggerOptions, PathOptions, TrainOptions
from .training_options import TrainingOptions

HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"


def markdown_table() -> str:
    """Every key with type, default and meaning; a dagger marks the keys that UNetSPSR's own tables do not have."""
    return HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    shared = {one.name for one, _ in keys_of(DatasetOptions)}
    yield from _block("", TrainingOptions)
    yield from _block("datasets.*.", DatasetOptions)
    yield from _block("datasets.train.", TrainDatasetOptions, without=shared)
    yield from _block("path.", PathOptions)
    yield from _block("network_G.", GeneratorOptions)
    yield from _block("network_D.", DiscriminatorOptions)
    yield _row("network_D_grad †", "block", "`null`", "As network_D, for gradient maps; what is left out is as there.")
    yield from _block("train.", TrainOptions)
    yield from _block("logger.", LoggerOptions)
    yield from _block("card.", CardOptions)


def _block(prefix: str, section: type, without: set[str] = frozenset()) -> Iterator[str]:
    for one, key in keys_of(section):
        if one.name not in without:
            name = f"{prefix}{one.name}{' †' if key.ours else ''}"
            yield _row(name, str(key.kind), f"`{shown(key.kind.write(default_of(one)))}`", key.meaning)


def _row(name: str, kind: str, default: str, meaning: str) -> str:
    name, *dagger = name.split(" ")
    cells = (" ".join([f"`{name}`", *dagger]), kind, default, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    print(markdown_table(), end="")

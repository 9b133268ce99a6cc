"""The JSON of a training's options while people change it: presets, files, single keys, and where the images go.

The images are kept apart from the other options, because volumes of the scene may be among them.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import OptionError, OutputError
from ...core.resources import resource
from ...train.checks import read_and_check, read_options, read_values
from ...train.option_kinds import shown
from ...train.options import TrainingOptions
from ...train.options_schema import catalogue
from .data_rows import USES, DataRow, makeRow

PRESETS = ("quick-look", "light", "unetspsr-full")
NO_IMAGES = {"dataroot_HR": None, "dataroot_LR": None, "mode": "HR", "subset_file": None}
NONE_BESIDE = {"procedural": 0, "public": [], "slices": None}
PREPARED_WINDOW = [0, 65535]
SAME_WINDOW = 0.02  # of its width
Values = dict[str, Any]


@lru_cache
def _presetText(name: str) -> str:
    return json.dumps(read_options(resource(f"Configurations/{name}.json")).to_json())


def preset(name: str) -> Values:
    """All options of a preset, see `PRESETS`."""
    return json.loads(_presetText(name))


def isPreset(values: Values, name: str) -> bool:
    """Whether these are a preset's options, apart from the images and from what is in this computer's folders."""
    return _ofPreset(values) == _ofPreset(preset(name))


def openValues(path: str | Path) -> tuple[Values, list[DataRow]]:
    """Options of a file, complete, and the images that they name, as rows; relative paths begin at the file's folder.

    Raises
    ------
    OptionError
        With all that is wrong.
    """
    path = Path(path)
    given = read_values(path)
    options, problems = read_and_check(_withAnyImages(given))
    if problems.found:
        raise OptionError("\n".join([f"{path}:", *problems.texts]), "Correct the file and open it again.")
    values = options.to_json()
    for phase in USES:
        if phase in values["datasets"] and not _hasImages(given, phase):
            values["datasets"][phase] |= NO_IMAGES
    return _apart(_fromFolder(values, path.parent.absolute()))


def saveValues(options: TrainingOptions, path: str | Path) -> None:
    """Write all options, comments apart, as a file that every reader of them takes.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(json.dumps(options.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Choose another folder.") from error


def valueAt(values: Values, name: str) -> Any:
    """The value of a key such as "train.lr_G"; None if it is not there."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def withValue(values: Values, name: str, value: Any) -> Values:
    """The options with one value changed."""
    values = copy.deepcopy(values)
    block = values
    *path, last = name.split(".")
    for part in path:
        if not isinstance(block.get(part), dict):
            block[part] = {}
        block = block[part]
    block[last] = value
    return values


def valueOfText(name: str, text: str) -> Any:
    """What a text means as the value of a key; an empty one is null."""
    text = text.strip()
    return _kinds()[name].from_text(text) if text else None


def textOfValue(value: Any) -> str:
    """A value as people type it; `valueOfText` gives it back."""
    if value is None:
        return ""
    return value if isinstance(value, str) else shown(value) if isinstance(value, float) else _json(value)


def withRows(values: Values, rows: Sequence[DataRow]) -> Values:
    """The options with the scans of these rows; a volume of the scene is there by name only.

    Without images of any kind, there is no validation.
    """
    values = copy.deepcopy(values)
    for phase in USES:
        chosen = [row for row in rows if row.use == phase]
        if chosen:
            values["datasets"][phase] = {**(values["datasets"].get(phase) or {}), **_roots(chosen)}
    if not _hasImages(values, "val"):
        values["datasets"].pop("val", None)
    return values


def withoutOtherImages(values: Values, phases: Iterable[str]) -> Values:
    """The options without computer-drawn slices and public scans in these sets: own scans stand for them."""
    values = copy.deepcopy(values)
    for phase in phases:
        if isinstance(values["datasets"].get(phase), dict):
            values["datasets"][phase] |= NONE_BESIDE | ({"procedural_share": None} if phase == "train" else {})
    return values


def withPrepared(values: Values, datasets: Mapping[str, Mapping]) -> tuple[Values, list[DataRow]]:
    """The options and rows that `datasets.json` of prepared scans asks for."""
    rows = [row for phase in USES if phase in datasets for row in _rowsOf(datasets[phase], phase)]
    if "train" in datasets:
        window = _commonWindow(values, datasets["train"].get("scanner_window"))
        values = withValue(values, "datasets.train.scanner_window", window)
        values = withValue(values, "datasets.train.normalization_range", PREPARED_WINDOW)
    return withoutOtherImages(values, {row.use for row in rows}), rows


def _commonWindow(values: Values, window: Sequence[float] | None) -> list[float] | None:
    """The scanner's window of all scans that were prepared so far; None where they differ."""
    train = values["datasets"]["train"]
    before = train.get("scanner_window") if train.get("normalization_range") == PREPARED_WINDOW else window
    if not window or not before:
        return None
    apart = max(abs(a - b) for a, b in zip(window, before, strict=True))
    return list(before) if apart <= SAME_WINDOW * (window[1] - window[0]) else None


def _apart(values: Values) -> tuple[Values, list[DataRow]]:
    """Options without images, and the images."""
    rows = [row for phase in USES for row in _rowsOf(values["datasets"].get(phase) or {}, phase)]
    for phase in USES:
        if values["datasets"].get(phase):
            values["datasets"][phase] |= NO_IMAGES | {"subset_file": values["datasets"][phase]["subset_file"]}
    return values, rows


def _rowsOf(dataset: Mapping, phase: str) -> list[DataRow]:
    fine, coarse = (_listed(dataset.get(key)) for key in ("dataroot_HR", "dataroot_LR"))
    return [makeRow(one, coarse[n] if n < len(coarse) else None, phase) for n, one in enumerate(fine)]


def _roots(rows: Sequence[DataRow]) -> Values:
    fine = [str(row.fine) if isinstance(row.fine, str | Path) else row.names[1] for row in rows]
    coarse = [str(row.coarse) if isinstance(row.coarse, str | Path) else row.names[0] for row in rows]
    arePairs = all(row.isPair for row in rows)
    return {"mode": "LRHR" if arePairs else "HR", "dataroot_HR": fine, "dataroot_LR": coarse if arePairs else None}


def _listed(value: Any) -> list[str]:
    return [] if not value else list(value) if isinstance(value, list | tuple) else [value]


def _withAnyImages(given: Mapping) -> Values:
    """So that options without images can be read, and all else in them checked."""
    values = copy.deepcopy(dict(given))
    datasets = values.setdefault("datasets", {})
    for phase in USES:
        if isinstance(datasets, dict) and isinstance(datasets.get(phase), dict) and not _hasImages(values, phase):
            datasets[phase] |= {"mode": "HR", "dataroot_HR": phase}
    return values


def _hasImages(values: Mapping, phase: str) -> bool:
    dataset = valueAt(dict(values), f"datasets.{phase}") or {}
    return any(dataset.get(key) for key in ("dataroot_HR", "dataroot_LR", "procedural", "public"))


def _fromFolder(values: Values, folder: Path) -> Values:
    """Paths that are relative in a file, from every folder."""

    def absolute(value: Any) -> Any:
        return _each(value, lambda one: str(folder / Path(one).expanduser()))

    for name in ("root", "pretrain_model_G", "feature_weights", "public_data"):
        values["path"][name] = absolute(values["path"][name])
    for dataset in values["datasets"].values():
        for name in ("dataroot_HR", "dataroot_LR", "subset_file"):
            dataset[name] = absolute(dataset[name])
    return values


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if not value:
        return value
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def _ofPreset(values: Values) -> Values:
    values = copy.deepcopy(values)
    for block in ("name", "path"):
        values.pop(block, None)
    for phase in USES:
        for key in (*NO_IMAGES, *NONE_BESIDE, "procedural_share", "normalization_range", "scanner_window"):
            (valueAt(values, f"datasets.{phase}") or {}).pop(key, None)
    return values


@lru_cache
def _kinds() -> Mapping[str, Any]:
    return {entry.name: entry.key.kind for entry in catalogue()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

"""The JSON of a training's options apart from its images, which the panel keeps in a table: they come from a file or
from prepared scans, go into the options when these are used, and are not compared with a preset's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import OptionError
from ...train.options_file import (
    preset,
    read_and_check,
    read_values,
    value_at,
    with_absolute_paths,
    with_value,
)
from .data_rows import USES, DataRow, makeRow

NO_IMAGES = {"dataroot_HR": None, "dataroot_LR": None, "mode": "HR", "subset_file": None}
NONE_BESIDE = {"procedural": 0, "public": [], "slices": None}
DEVICE = {"device": "auto", "gpu_ids": "auto"}  # is the computer's, not the preset's
PREPARED_WINDOW = [0, 65535]
SAME_WINDOW = 0.02  # of its width
Values = dict[str, Any]


def isPreset(values: Values, name: str) -> bool:
    """Whether these are a preset's options, apart from the images and from what is this computer's."""
    return _withoutPlaces(values) == _withoutPlaces(preset(name))


def _withoutPlaces(values: Values) -> Values:
    values = copy.deepcopy(values)
    for block in ("name", "path", *DEVICE):
        values.pop(block, None)
    for phase in USES:
        for key in (*NO_IMAGES, *NONE_BESIDE, "procedural_share", "normalization_range", "scanner_window"):
            (value_at(values, f"datasets.{phase}") or {}).pop(key, None)
    return values


def openValues(path: str | Path) -> tuple[Values, list[DataRow]]:
    """Options of a file, complete, and the images that they name, as rows; relative paths begin at the file's folder.

    Raises
    ------
    OptionError
        With all that is wrong.
    """
    path = Path(path)
    given = read_values(path)
    readable = copy.deepcopy(dict(given))  # with some images, so that all else can be read and checked
    datasets = readable.setdefault("datasets", {})
    lacking = [phase for phase in USES if not _hasImages(given, phase)]
    for phase in lacking:
        if isinstance(datasets, dict) and isinstance(datasets.get(phase), dict):
            datasets[phase] |= {"mode": "HR", "dataroot_HR": phase}
    options, problems = read_and_check(readable)
    if problems.found:
        raise OptionError("\n".join([f"{path}:", *problems.texts]), "Correct the file and open it again.")
    values, rows = with_absolute_paths(options.to_json(), path.parent), []
    for phase in USES:
        dataset = values["datasets"].get(phase)
        if dataset and phase not in lacking:
            rows += _rowsOf(dataset, phase)
        if dataset:
            values["datasets"][phase] |= {**NO_IMAGES, "subset_file": dataset["subset_file"]}
    return values, rows


def withRows(values: Values, rows: Sequence[DataRow]) -> Values:
    """The options with the scans of these rows; a volume of the scene is there by name only.

    Without images of any kind, there is no validation.
    """
    values = copy.deepcopy(values)
    for phase in USES:
        chosen = [row for row in rows if row.use == phase]
        if chosen:
            fine = [str(row.fine) if isinstance(row.fine, str | Path) else row.names[1] for row in chosen]
            coarse = [str(row.coarse) if isinstance(row.coarse, str | Path) else row.names[0] for row in chosen]
            roots = {"mode": "HR", "dataroot_HR": fine, "dataroot_LR": None}
            if all(row.isPair for row in chosen):
                roots = {"mode": "LRHR", "dataroot_HR": fine, "dataroot_LR": coarse}
            values["datasets"][phase] = {**(values["datasets"].get(phase) or {}), **roots}
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
        values = with_value(values, "datasets.train.scanner_window", window)
        values = with_value(values, "datasets.train.normalization_range", PREPARED_WINDOW)
    return withoutOtherImages(values, {row.use for row in rows}), rows


def _commonWindow(values: Values, window: Sequence[float] | None) -> list[float] | None:
    """The scanner's window of all scans that were prepared so far; None where they differ."""
    train = values["datasets"]["train"]
    before = train.get("scanner_window") if train.get("normalization_range") == PREPARED_WINDOW else window
    if not window or not before:
        return None
    apart = max(abs(a - b) for a, b in zip(window, before, strict=True))
    return list(before) if apart <= SAME_WINDOW * (window[1] - window[0]) else None


def _rowsOf(dataset: Mapping, phase: str) -> list[DataRow]:
    roots = (dataset.get(key) or [] for key in ("dataroot_HR", "dataroot_LR"))
    fine, coarse = ([one] if isinstance(one, str) else list(one) for one in roots)
    return [makeRow(one, coarse[n] if n < len(coarse) else None, phase) for n, one in enumerate(fine)]


def _hasImages(values: Mapping, phase: str) -> bool:
    dataset = value_at(values, f"datasets.{phase}")
    keys = ("dataroot_HR", "dataroot_LR", "procedural", "public")
    return isinstance(dataset, Mapping) and any(dataset.get(key) for key in keys)

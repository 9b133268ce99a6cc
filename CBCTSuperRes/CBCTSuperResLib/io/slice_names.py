"""The order of a folder's slices, from the numbers in their names; nothing missing, doubled or of another scan.

Numbers are whole ("s001"), signed ("z-1", "z0", "z1") or positions ("z0.25"); which of them is meant shows in that the
slices are evenly spaced by it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError

SHOWN = 4
FEW = 0.2  # of the files; fewer are strangers among the others
MOST_NUMBERS = 100_000  # that are looked through for missing ones
COARSE = 8  # steps of so many units of the last digit may be rounded
WAYS = (r"\d+", r"[-+]?\d+", r"\d+[.,]\d+|\d+", r"[-+]?\d+[.,]\d+|[-+]?\d+")
SURELY_SIGNED = re.compile(r"(^|[_\s=(,-])-$")
RENAME = "Number the slices of one scan in one place of their names, without gaps."


@dataclass(frozen=True)
class _Numbering:
    """Numbers in names of one kind: what lies between them, and the numbers as text, (file, place)."""

    texts: tuple[str, ...]
    words: list[tuple[str, ...]]

    @property
    def varying(self) -> list[int]:
        return [place for place in range(len(self.texts) - 1) if len({row[place] for row in self.words}) > 1]

    def values(self, place: int) -> np.ndarray:
        return np.array([float(row[place].replace(",", ".")) for row in self.words])

    def is_complete(self, place: int) -> bool:
        """Whether the numbers at a place are all different and evenly spaced."""
        values = np.sort(self.values(place))
        if len(np.unique(values)) < len(values):
            return False
        digits = max(len(re.split(r"[.,]", row[place] + ".")[1]) for row in self.words)
        unit, step = 10.0**-digits, (values[-1] - values[0]) / (len(values) - 1)
        off = float(np.abs(values - np.linspace(values[0], values[-1], len(values))).max())
        return off <= (1.01 * unit if step >= COARSE * unit else 1e-6 * unit)


def ordered(files: Sequence[Path]) -> list[Path]:
    """The slices in the order of their numbers.

    Raises
    ------
    InputError
        If numbers are missing or stand twice, files are called unlike the others, or the order is not clear.
    """
    files = sorted(files, key=lambda path: (path.stem.casefold(), path.suffix))
    if len(files) < 2:
        return files
    for way in WAYS:
        numbering = _numbering(files, way)
        if numbering is None:
            continue
        places = [place for place in numbering.varying if numbering.is_complete(place)]
        orders = {tuple(np.argsort(numbering.values(place) * _sign(numbering, place))) for place in places}
        if len(orders) == 1:
            return [files[n] for n in orders.pop()]
        if orders:
            raise InputError(
                f"The names of the slices count in {len(places)} places, and not alike ({files[0].name}).", RENAME
            )
    raise _disorder(files)


def skipping(files: Sequence[Path]) -> str:
    """A sentence if the whole numbers of ordered slices go up in larger steps than 1; "" otherwise."""
    numbering = _numbering(files, WAYS[0]) if len(files) > 2 else None
    for place in numbering.varying if numbering else ():
        steps = np.abs(np.diff(numbering.values(place)))
        if steps[0] > 1 and (steps == steps[0]).all():
            return (
                f"The numbers of the slices go up in steps of {steps[0]:g} ({files[0].name}, {files[1].name}): if the "
                "slices between were left out, their distance is as much larger."
            )
    return ""


def _numbering(files: Sequence[Path], way: str) -> _Numbering | None:
    """The numbers in names that are alike but for them; None if the names are not."""
    rows = [re.split(f"({way})", path.stem.casefold()) for path in files]
    texts = {tuple(row[::2]) for row in rows}
    return _Numbering(texts.pop(), [tuple(row[1::2]) for row in rows]) if len(texts) == 1 else None


def _sign(numbering: _Numbering, place: int) -> int:
    """-1 where every number stands behind a minus sign that is no hyphen.

    Raises
    ------
    InputError
        If that cannot be told.
    """
    before = numbering.texts[place]
    if SURELY_SIGNED.search(before):
        return -1
    if before.endswith("-") and any("." in row[place] or "," in row[place] for row in numbering.words):
        raise InputError(
            f"The names of the slices have positions behind a minus sign or a hyphen ({before}"
            f"{numbering.words[0][place]}): which way they run is not clear.",
            "Write an underscore before the minus sign, or number the slices.",
        )
    return 1


def _disorder(files: Sequence[Path]) -> InputError:
    """Why these names give no order."""
    kinds = Counter(_kind(path) for path in files)
    usual, count = kinds.most_common(1)[0]
    if not any(re.search(r"\d", path.stem) for path in files):
        return InputError(
            f"The slices have no numbers in their names ({_named(files)}), so that their order is not known.", RENAME
        )
    if len(kinds) > 1:
        others = [path for path in files if _kind(path) != usual]
        example = next(path.name for path in files if _kind(path) == usual)
        if len(others) <= max(2, FEW * len(files)) and count > len(others):
            return InputError(
                f"{_named(others)} {'is' if len(others) == 1 else 'are'} not called like the other {count} slices "
                f"({example}): a copy, an overview or a mask?",
                "Move what does not belong to the volume into another folder.",
            )
        listed = "; ".join(
            f"{number} like {next(p.name for p in files if _kind(p) == kind)}"
            for kind, number in kinds.most_common(SHOWN)
        )
        return InputError(
            f"The folder holds images of {len(kinds)} kinds of names: {listed}.", "Keep one scan in a folder."
        )
    numbering = _numbering(files, WAYS[0])
    varying = numbering.varying
    unique = [place for place in varying if len(set(numbering.values(place))) == len(files)]
    if not unique:
        if len(varying) > 1:
            return InputError(
                f"The names of the slices count in {len(varying)} places ({files[0].name} to {files[-1].name}): "
                "several channels, time points or scans in one folder.",
                "Keep one of them in a folder.",
            )
        values = numbering.values(varying[0]) if varying else np.zeros(len(files))
        first = int(np.flatnonzero([np.count_nonzero(values == value) > 1 for value in values])[0])
        twice = [path for path, value in zip(files, values, strict=True) if value == values[first]]
        return InputError(f"{_named(twice)} have the same number.", "Remove the copies.")
    return _gap(files, numbering.values(unique[-1]))


def _gap(files: Sequence[Path], values: np.ndarray) -> InputError:
    order = np.argsort(values)
    steps = np.diff(values[order])
    step = float(np.min(steps))
    is_counted = step >= 1 and not np.any(steps % step) and values.max() - values.min() < MOST_NUMBERS * step
    step = step if is_counted else float(np.median(steps))
    odd = int(np.flatnonzero(steps != step)[0])
    before, behind = files[order[odd]], files[order[odd + 1]]
    if is_counted:
        expected = np.arange(values.min(), values.max(), step)
        runs = _runs(expected[~np.isin(expected, values)].astype(int).tolist(), int(step))
        what = f"The slices with the numbers {', '.join(runs[:SHOWN])}{' and more' * (len(runs) > SHOWN)} are missing"
        where = f" ({before.name} is followed by {behind.name})"
    else:
        what = f"The numbers of the slices are not evenly spaced: between {before.name} and {behind.name}"
        where = f" lie {steps[odd]:g}, elsewhere {step:g}"
    return InputError(f"{what}{where}.", "Copy the missing slices; or, if none is missing, number them without gaps.")


def _runs(numbers: Sequence[int], step: int) -> list[str]:
    """ "3", "11 to 13" """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + step:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [str(a) if a == b else f"{a} to {b}" for a, b in runs]


def _kind(path: Path) -> tuple[str, ...]:
    return tuple(re.split(r"\d+", path.stem.casefold()))


def _named(files: Sequence[Path]) -> str:
    names = [path.name for path in files]
    if len(names) > SHOWN:
        return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]

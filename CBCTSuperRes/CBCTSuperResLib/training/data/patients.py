"""Whose scan a file is, so that nobody is both trained on and measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError, OptionError
from ...files.writing import format_of


def patient_of(path: str | Path, pattern: str | None = None) -> str:
    """What the pattern finds in a path (its first group, or all of it); without one the file's name.

    Raises
    ------
    OptionError
        If the pattern is no regular expression.
    InputError
        If it does not find anything.
    """
    path = Path(path)
    if pattern is None:
        return path.name.removesuffix(path.name[len(path.name) - len(format_of(path)) :]) or path.name
    try:
        found = re.search(pattern, path.as_posix())
    except re.error as error:
        raise OptionError(f"patient_pattern {pattern!r} is no regular expression: {error}.", "Correct it.") from error
    if found is None:
        raise InputError(f"patient_pattern {pattern!r} finds no patient in {path}.", "Correct it, or rename the file.")
    return found[1] if found.re.groups and found[1] is not None else found[0]


def split_by_patient(
    paths: Iterable[str | Path], share: float, seed: int, pattern: str | None = None
) -> tuple[list[Path], list[Path]]:
    """Paths to train on and paths that are held out, each in the order given; no patient is in both.

    Parameters
    ----------
    paths : iterable of path
    share : float
        Of the patients that are held out, 0 to 1; where it is not 0, at least one, and at least one is left.
    seed : int
        The choice depends on it and on the patients, not on the order or the number of their files.
    pattern : str, optional
        See `patient_of`.

    Raises
    ------
    OptionError
        If the share is none.
    InputError
        If there are not two patients to split.
    """
    if not 0 <= share < 1:
        raise OptionError(f"The share {share} is not from 0 to below 1.", "Give for instance 0.2.")
    owners = [(Path(path), patient_of(path, pattern)) for path in paths]
    patients = sorted({patient for _, patient in owners})
    if share == 0:
        return [path for path, _ in owners], []
    if len(patients) < 2:
        raise InputError(
            f"There is only one patient ({', '.join(patients)}) to split.",
            "Give scans of at least two, or a patient_pattern that tells them apart.",
        )
    count = min(max(1, round(share * len(patients))), len(patients) - 1)
    held_out = {patients[n] for n in np.random.default_rng(seed).permutation(len(patients))[:count]}
    return [p for p, owner in owners if owner not in held_out], [p for p, owner in owners if owner in held_out]


def refuse_shared_patients(training: Sequence[Path], held_out: Sequence[Path], pattern: str) -> None:
    """
    Raises
    ------
    InputError
        Naming the patients that are in both.
    """
    both = {patient_of(path, pattern) for path in training} & {patient_of(path, pattern) for path in held_out}
    if both:
        raise InputError(
            f"The training and the validation set share patients: {', '.join(sorted(both)[:8])}.",
            "Move all images of a patient to one of them.",
        )

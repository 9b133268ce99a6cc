"""Whose scan a file is, so that nobody is both trained on and measured."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import InputError, OptionError


def patient_of(path: Path, pattern: str) -> str:
    """What the pattern finds in a path with forward slashes: its first group, or all of it.

    Raises
    ------
    OptionError
        If the pattern is no regular expression, or does not find anything.
    """
    try:
        found = re.search(pattern, path.as_posix())
    except re.error as error:
        raise OptionError(f"patient_pattern {pattern!r} is no regular expression: {error}.", "Correct it.") from error
    if found is None:
        raise OptionError(f"patient_pattern {pattern!r} finds no patient in {path}.", "Give one that fits every path.")
    return found[1] if found.re.groups else found[0]


def refuse_shared_patients(training: Iterable[Path], validation: Iterable[Path], pattern: str) -> None:
    """
    Raises
    ------
    InputError
        Naming the patients that are in both.
    """
    both = {patient_of(path, pattern) for path in training} & {patient_of(path, pattern) for path in validation}
    if both:
        raise InputError(
            f"The training and the validation set share patients: {', '.join(sorted(both)[:8])}.",
            "Move all images of a patient to one of them.",
        )

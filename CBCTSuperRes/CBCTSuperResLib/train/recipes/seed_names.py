"""The keys of the programs that recipes come from, as on their command lines, and which of ours each means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any


@dataclass(frozen=True)
class SeedName:
    """Where a key of a recipe's original program stands among ours.

    Attributes
    ----------
    place : str
        Such as "train.lr_G".
    unit : str
        "" for the same value; "epochs" for a number of epochs, which becomes one of iterations; "milestones" for the
        epochs between two milestones, of which our key is the list; "member" for the only one of our list.
    """

    place: str
    unit: str = ""


@dataclass(frozen=True)
class SeedNames:
    """The keys of a recipe's original program, which stand outside all blocks, as on its command line.

    Attributes
    ----------
    names : mapping of str to SeedName
    epoch_size : int
        Samples of an epoch, unless a key "epoch_size" beside them says otherwise.
    defaults : mapping of str to object
        What the original has where the key is left out, of those that decide over others: "epoch", "bs".
    elsewhere : mapping of str to str
        Keys of the original that are no options of a training here, and the end of a sentence that says what they are.
    """

    names: Mapping[str, SeedName]
    epoch_size: int = 1
    defaults: Mapping[str, int] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.names or name == "epoch_size"

    def translated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of our keys, by their places, that the original's mean.

        What is of no sensible type passes as it is, for the check of our key to refuse.
        """
        counts = {"epoch_size": self.epoch_size, **self.defaults, **given}
        found = {}
        for name, value in given.items():
            if name == "epoch_size":
                continue
            entry = self.names[name]
            if entry.unit == "member":
                found[entry.place] = [value] if isinstance(value, int) and not isinstance(value, bool) else value
                continue
            if entry.unit and not all(map(is_count, (value, counts["epoch_size"], counts["bs"]))):
                found[entry.place] = [value] if entry.unit == "milestones" and is_count(value) else value
                continue
            if entry.unit == "epochs":
                value = value * ceil(counts["epoch_size"] / counts["bs"])
            elif entry.unit == "milestones":
                epochs = counts["epoch"] if is_count(counts["epoch"]) else value
                value = [n * ceil(counts["epoch_size"] / counts["bs"]) for n in range(value, epochs, value)]
            found[entry.place] = value
        return found


def is_count(value: Any) -> bool:
    """Whether a value of a JSON is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

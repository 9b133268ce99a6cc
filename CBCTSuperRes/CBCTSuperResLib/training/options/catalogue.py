"""Every key of a training's options by its full name, for a table that people fill in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .keys import Key, default_of, keys_of
from .kinds import shown
from .training_options import section_type

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

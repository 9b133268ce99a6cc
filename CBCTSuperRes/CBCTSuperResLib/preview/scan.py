"""A scan that was handed over, and what a look at it showed; kept from one preview to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..blanks import BlankRegion
from ..files.exchange import read_exchange
from ..models.card import ModelCard
from ..options import Options
from ..resolve import Looked, look
from ..volume import Volume, axes_of


class Scan:
    """A volume in exchange format. It is looked at once for each choice of blanks, of a window and of a model.

    Raises
    ------
    InputError
        If the file is no whole volume.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.volume = read_exchange(path)
        self._blanks: dict[str | float, BlankRegion] = {}
        self._looks: dict[tuple, Looked] = {}

    def look(self, options: Options, card: ModelCard) -> Looked:
        """What the whole scan shows.

        Raises
        ------
        InputError, OptionError
        """
        key = (options.blank, options.window, card.weights_sha256)
        if key not in self._looks:
            self._looks[key] = look(self.volume, options, card, self._blanks.get(options.blank))
            self._blanks[options.blank] = self._looks[key].blanks
        return self._looks[key]

    def cut(self, order: Sequence[int], looked: Looked) -> tuple[Volume, Looked]:
        """Volume and look as they are for slices across another axis; `order` is as of `Grid.permuted`."""
        return self.volume.permuted(order), replace(looked, blanks=looked.blanks.permuted(axes_of(order)))

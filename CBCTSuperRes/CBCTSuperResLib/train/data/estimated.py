"""What a network with conditions is told of a scan that was not simulated: what its own slices tell, as in Apply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...acquisition.estimate import estimate
from ...apply.conditions import cautious
from ...models.card import USUAL_BLUR
from .pictures import Picture


class EstimatedConditions:
    """Blur and noise of LR pictures, estimated once for each.

    Parameters
    ----------
    pictures : sequence of Picture
        LR, each a slice or a slice between its neighbours.
    """

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = pictures
        self._found: dict[int, tuple[float, float]] = {}

    def of(self, number: int) -> dict[str, np.ndarray]:
        """ "blur" (2,), alike along both axes of the slice, and "noise" (1,), float32; see `networks.spec`.

        A few slices tell less for sure than a whole scan does: where edges are missing, the blur is a usual one.
        """
        if number not in self._found:
            found = estimate(self._pictures[number].whole(), (1.0, 1.0, 1.0), (0.0, 1.0))
            widths = [axis.sd for axis in found.blur[1:] if axis.sd is not None]
            blur = float(np.mean(widths)) if widths else USUAL_BLUR
            self._found[number] = float(cautious(np.array(blur))), found.noise.sd if found.noise else 0.0
        blur, noise = self._found[number]
        return {"blur": np.full(2, blur, np.float32), "noise": np.full(1, noise, np.float32)}

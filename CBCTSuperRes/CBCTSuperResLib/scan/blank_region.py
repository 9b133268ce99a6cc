"""Where a volume is blank, on its own grid and on every finer one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.volume import as_acquired

_MOST_MASKS = 256

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class BlankRegion:
    """Where a volume is blank.

    Positions are in voxels of the input, along (k, j, i); a voxel's centre has an integer position. Voxel o of an
    output grid that covers the same extent with n_out voxels lies at (o + 0.5) * n_in / n_out - 0.5.

    Attributes
    ----------
    kind : "none", "cylinder", "box" or "values"
        "values" means every voxel of the value, wherever it is.
    value : float or None
        Grey value of blank voxels.
    rule : str
        A sentence for the user: what is blank and why.
    share : float
        Share of all voxels that is blank.
    box : three pairs of int
        First index and end of the field of view along (k, j, i); the whole volume if it has no straight faces.
    axis : int or None
        Axis of the cylinder: 0, 1, 2 for k, j, i.
    centre, radii : pairs of float
        Axis point and radii of the cylinder along the two other axes, in voxels.
    radii_mm : pair of float
        The same radii in mm; they differ only for an elliptic field of view.
    voxels : ndarray or None
        The volume's voxels, a view.
    rim : ndarray or None
        Columns just inside the cylinder, bool along the two other axes, that are blank, or, in a scan that was
        resampled, mixtures of data and blank value. No data for a network, but within the field of view.
    """

    kind: str
    rule: str
    value: float | None = None
    share: float = 0.0
    box: Box = ((0, 0), (0, 0), (0, 0))
    axis: int | None = None
    centre: tuple[float, float] = (0.0, 0.0)
    radii: tuple[float, float] = (1.0, 1.0)
    radii_mm: tuple[float, float] = (0.0, 0.0)
    voxels: np.ndarray | None = field(default=None, repr=False)
    rim: np.ndarray | None = field(default=None, repr=False)
    _masks: dict = field(default_factory=dict, init=False, repr=False)

    def __bool__(self) -> bool:
        return self.kind != "none"

    def to_json(self) -> dict:
        """What a report says of it."""
        return {"kind": self.kind, "value": self.value, "share": self.share, "rule": self.rule}

    def as_acquired(self, across: int) -> BlankRegion:
        """The same of the volume with k and another axis exchanged; `across` is as in `Grid.as_acquired`."""
        if not across or self.kind == "none":
            return self
        box, facts = tuple(as_acquired(self.box, across)), {}
        if self.axis is not None:
            others = as_acquired([0, 1, 2], across)  # where the axes were
            axis = others.index(self.axis)
            if [n for n in others if n != self.axis] != sorted({0, 1, 2} - {self.axis}):  # the two change places
                facts = {name: getattr(self, name)[::-1] for name in ("centre", "radii", "radii_mm")}
                facts["rim"] = None if self.rim is None else self.rim.T
            facts["axis"] = axis
        voxels = None if self.voxels is None else self.voxels.swapaxes(0, across)
        return replace(self, box=box, voxels=voxels, **facts)

    def mask(self, k: int) -> np.ndarray | None:
        """Blank voxels of slice k of the input, bool (j, i), or None if it has none.

        Includes the rim. Masks that repeat from slice to slice are the same read-only object.
        """
        if self.kind == "none":
            return None
        _, nj, ni = self.voxels.shape
        if self.rim is None or self._is_beyond(k):
            return self.fine_mask(k, np.arange(nj), np.arange(ni))
        if self.axis == 0:
            return self._remembered("input", lambda: self._blank_at(k, np.arange(nj), np.arange(ni)) | self.rim)
        rim = self.rim[k][None, :] if self.axis == 1 else self.rim[k][:, None]
        mask = self._blank_at(k, np.arange(nj), np.arange(ni)) | rim
        return mask if mask.any() else None

    def fine_mask(self, k: float, j: np.ndarray, i: np.ndarray) -> np.ndarray | None:
        """Blank points of a lattice in the plane at position k, bool (len(j), len(i)), or None if it has none.

        Parameters
        ----------
        k : float
            Position of the plane in voxels of the input.
        j, i : ndarray, 1-D
            Positions in voxels of the input; neither regular spacing nor full coverage is needed.
        """
        if self.kind == "none":
            return None
        j, i = np.asarray(j, dtype=np.float64), np.asarray(i, dtype=np.float64)
        if self.kind == "values" or self.axis in (1, 2):  # it changes along k
            mask = self._blank_at(k, j, i)
            return mask if mask.any() else None
        return self._remembered((self._is_beyond(k), j.tobytes(), i.tobytes()), lambda: self._blank_at(k, j, i))

    def _is_beyond(self, k: float) -> bool:
        return not self.box[0][0] - 0.5 <= k <= self.box[0][1] - 0.5

    def _remembered(self, key: object, make: Callable[[], np.ndarray]) -> np.ndarray | None:
        try:
            return self._masks[key]
        except KeyError:
            mask = make()
        mask.flags.writeable = False
        mask = mask if mask.any() else None
        if len(self._masks) >= _MOST_MASKS:
            self._masks.clear()
        self._masks[key] = mask
        return mask

    def _blank_at(self, k: float, j: np.ndarray, i: np.ndarray) -> np.ndarray:
        if self.kind == "values":
            nk, nj, ni = (
                np.clip(np.floor(np.asarray(position) + 0.5), 0, size - 1).astype(np.intp)
                for position, size in zip((k, j, i), self.voxels.shape, strict=True)
            )
            return (self.voxels[nk] == self.value)[nj][:, ni]
        return self.outside(np.array([k]), j, i)[0]

    def outside(self, k: np.ndarray, j: np.ndarray, i: np.ndarray) -> np.ndarray:
        """Which points of a lattice lie outside the cylinder or the box, bool (len(k), len(j), len(i))."""
        positions = np.ix_(k, j, i)
        result = np.zeros((1, 1, 1), dtype=bool)
        for position, (start, end) in zip(positions, self.box, strict=True):
            result = result | (position < start - 0.5) | (position > end - 0.5)
        if self.axis is not None:
            across = [position for axis, position in enumerate(positions) if axis != self.axis]
            terms = [((p - c) / r) ** 2 for p, c, r in zip(across, self.centre, self.radii, strict=True)]
            result = result | (terms[0] + terms[1] > 1)
        return np.broadcast_to(result, (len(k), len(j), len(i))).copy()


def whole_box(shape: tuple[int, ...]) -> Box:
    """The box of a whole volume."""
    return tuple((0, n) for n in shape)

"""Fill blank pixels of a slice so that the network sees no false edge where the field of view ends."""

from __future__ import annotations

import cv2
import numpy as np

from .blank_region import BlankRegion

_HOLE_SHARE = 0.02  # holes up to this share of a slice are inpainted, which gains nothing over nearest in larger ones
_INPAINT_RADIUS = 3
_WHOLE = slice(None)


class BlankFiller:
    """Fills the blank region of one volume, slice by slice.

    The outside of a field of view takes the value of the nearest measured pixel; where the mask repeats from slice to
    slice the way to it is computed once. Holes of other shapes are inpainted.

    Parameters
    ----------
    region : BlankRegion
    shape : tuple of int
        Shape (k, j, i) of the volume.

    Examples
    --------
    >>> filler = BlankFiller(find_blanks(scan), scan.voxels.shape)
    >>> filled = filler.fill(scan.voxels[k].astype(np.float32), k)
    """

    def __init__(self, region: BlankRegion, shape: tuple[int, int, int]) -> None:
        self._region = region
        self._shape = shape
        self._mask: np.ndarray | None = None
        self._sources: np.ndarray | None = None
        self._crops: dict[tuple[int, int, int, int], tuple[np.ndarray, np.ndarray]] = {}

    def is_blank(self, k: int) -> bool:
        """Whether nothing was measured in slice k."""
        mask = self._region.mask(k)
        return mask is not None and bool(mask.all())

    def fill(self, values: np.ndarray, k: int, rows: slice = _WHOLE, columns: slice = _WHOLE) -> np.ndarray:
        """Slice k, or a crop of it, with its blank pixels filled.

        Parameters
        ----------
        values : ndarray of float32 or float64, shape (j, i)
            The whole slice, from which a crop too is filled. Never modified.
        k : int
            Index of the slice.
        rows, columns : slice, optional
            The crop to return.

        Returns
        -------
        ndarray
            A new array of the same type, or a view of `values` where the crop holds no blank pixel or the whole slice
            is blank.
        """
        mask = self._region.mask(k)
        crop = values[rows, columns]
        if mask is None or mask.all() or not mask[rows, columns].any():
            return crop
        if self._region.kind == "values":
            return _filled_by_shape(values, mask)[rows, columns]
        targets, sources = self._gather(mask, rows, columns)
        filled = np.array(crop, order="C")
        filled.ravel()[targets] = np.take(values, sources)
        return filled

    def _gather(self, mask: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of the crop's blank pixels, and of the measured pixels of the slice nearest to them."""
        if mask is not self._mask:
            self._mask, self._sources = mask, _nearest_measured(mask)
            self._crops.clear()
        key = (*rows.indices(mask.shape[0])[:2], *columns.indices(mask.shape[1])[:2])
        if key not in self._crops:
            targets = np.flatnonzero(mask[rows, columns])
            self._crops[key] = targets, self._sources[rows, columns].ravel()[targets]
        return self._crops[key]


def _nearest_measured(mask: np.ndarray) -> np.ndarray:
    """Flat index of the nearest pixel that is not blank, for every pixel, shape (j, i)."""
    _, labels = cv2.distanceTransformWithLabels(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    measured = np.flatnonzero(~mask)
    index_of_label = np.zeros(int(labels.max()) + 1, dtype=np.intp)
    index_of_label[labels.ravel()[measured]] = measured
    return index_of_label[labels]


def _filled_by_shape(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy with small enclosed holes inpainted and everything else filled from the nearest measured pixel."""
    filled = np.array(values, order="C")
    filled[mask] = np.take(filled, _nearest_measured(mask)[mask])
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        left, top, width, height, area = boxes[label]
        enclosed = left > 0 and top > 0 and left + width < mask.shape[1] and top + height < mask.shape[0]
        if not enclosed or area > _HOLE_SHARE * mask.size:
            continue
        margin = _INPAINT_RADIUS + 1
        window = np.s_[max(top - margin, 0) : top + height + margin, max(left - margin, 0) : left + width + margin]
        hole = (labels[window] == label).astype(np.uint8)
        inpainted = cv2.inpaint(filled[window].astype(np.float32), hole, _INPAINT_RADIUS, cv2.INPAINT_NS)
        filled[window][hole > 0] = inpainted[hole > 0]
    return filled

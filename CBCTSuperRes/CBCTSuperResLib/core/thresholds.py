"""Thresholds between the classes of a histogram."""

from __future__ import annotations

import numpy as np


def otsu_cuts(counts: np.ndarray, classes: int) -> list[int]:
    """Cut a histogram into the classes of least total variance within them.

    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9 (1979) 62-66, for several
    thresholds by dynamic programming.

    Returns
    -------
    list of int
        First bin of each class but the lowest, ascending.
    """
    counts = np.asarray(counts, np.float64)
    bins = len(counts)
    number = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0], np.cumsum(counts * np.arange(bins))])

    weight = number[None, :] - number[:, None]
    gain = np.full((bins + 1, bins + 1), -np.inf)
    filled = weight > 0
    gain[filled] = (total[None, :] - total[:, None])[filled] ** 2 / weight[filled]
    gain[weight == 0] = 0
    gain[np.tril_indices(bins + 1, -1)] = -np.inf

    best, cuts = gain[0], []
    for _ in range(classes - 1):
        options = best[:, None] + gain
        cuts.append(np.argmax(options, axis=0))
        best = np.max(options, axis=0)
    edge, found = bins, []
    for cut in reversed(cuts):
        edge = int(cut[edge])
        found.append(edge)
    return found[::-1]

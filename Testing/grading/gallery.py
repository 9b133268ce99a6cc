"""One picture of all cases: coarse, cubic, each model and the truth, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from CBCTSuperResLib.acquisition.scanner import P2
from CBCTSuperResLib.evaluate.contenders import CUBIC
from CBCTSuperResLib.evaluate.drawing import liveliest
from CBCTSuperResLib.io.pictures import comparison, enlarge_nearest
from CBCTSuperResLib.measure.fidelity import psnr

from grading.cases import Case
from grading.methods import Method, cubic_method

EDGE = 64  # fine pixels of each panel
GAP = 6
NEIGHBOURS = 4  # slices on either side of the one that is drawn, for methods that see them


def gallery(cases: Iterable[Case], methods: Mapping[str, Method]) -> np.ndarray:
    """A row for each case, degraded as protocol P2 does, with the PSNR of the whole slice in the captions; uint8."""
    rows = [_row(case, methods) for case in cases]
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, GAP), (0, width - row.shape[1])), constant_values=255) for row in rows])


def _row(case: Case, methods: Mapping[str, Method]) -> np.ndarray:
    middle = len(case.truth) // 2
    around = slice(max(0, middle - NEIGHBOURS), middle + NEIGHBOURS + 1)
    truth, shown = case.truth[middle], middle - around.start
    coarse = P2.degrade(case.truth[around], seed=1)
    place = liveliest(truth, EDGE)
    panels = {"coarse": enlarge_nearest(coarse[shown], 2)[place]}
    for name, enlarge in {CUBIC: cubic_method, **methods}.items():
        image = np.clip(enlarge(coarse, P2)[shown], 0, 1)
        panels[f"{name} {psnr(image, truth):.1f} dB"] = image[place]
    return comparison({**panels, "truth": truth[place]})

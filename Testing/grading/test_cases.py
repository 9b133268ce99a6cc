"""The images that models are measured with: held out, in their own window, even in size."""

from __future__ import annotations

import numpy as np
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume

from grading import cases
from grading.cases import held_out_bone, in_robust_window


def test_held_out_bone_is_averaged_within_the_held_out_slices():
    voxels = np.zeros((14, 21, 20), np.uint8)
    voxels[6:] = np.random.default_rng(0).integers(0, 255, (8, 21, 20))
    native, halved = held_out_bone(Volume(voxels, Grid((20, 21, 14), (0.02,) * 3)), 6, (1, 2))
    assert native.truth.shape == (8, 20, 20) and halved.truth.shape == (4, 10, 10)
    assert "native 0.02 mm" in native.name and "averaged to 0.04 mm" in halved.name
    assert halved.spacing_mm == (0.04,) * 3
    assert native.truth[0].std() > 0.2


def test_the_robust_window_ignores_a_few_extremes_and_evens_the_size():
    voxels = np.linspace(100, 200, 5 * 21 * 31).reshape(5, 21, 31)
    voxels[0, 0, 0], voxels[-1, -2, -2] = -1e6, 1e6
    image = in_robust_window(Volume(voxels, Grid((31, 21, 5))))
    assert image.shape == (5, 20, 30) and image.dtype == np.float32
    assert image.min() == 0 and image.max() == 1 and 0.4 < np.median(image) < 0.6


def test_held_out_cases_leave_out_what_was_trained_on(shared_data, monkeypatch):
    monkeypatch.setattr(cases, "held_out_phantoms", lambda: iter([]))
    found = list(cases.held_out_cases(shared_data))
    assert [case.truth.shape[0] for case in found] == [161, 60, 30, 15]
    assert all(case.truth.min() == 0 and case.truth.max() <= 1 for case in found)

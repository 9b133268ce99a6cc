"""The comparison with cubic interpolation on images that no training has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.evaluation import compare
from CBCTSuperResLib.interpolate import enlarge_slice
from CBCTSuperResLib.volume import Grid, Volume


@pytest.fixture(scope="module")
def case() -> compare.Case:
    return compare.Case("phantom", np.clip(compare.jaw_phantom((4, 64, 64), 0.3, 7), 0, 1), (0.3, 0.3, 0.3))


def test_cubic_against_itself_is_a_draw(case):
    rows = compare.compare(case, {"model": lambda scan: np.stack([enlarge_slice(image, (64, 64)) for image in scan])})
    metrics = [row["metric"] for row in rows]
    assert metrics[:4] == ["PSNR (dB)", "SSIM", "gradient correlation", "gradient energy"]
    assert all(row["model"] == row["cubic"] for row in rows)
    assert 15 < rows[0]["cubic"] < 40
    assert rows[0]["data"] == "phantom, blur 0.85 pixels, noise 2 %"


def test_less_noise_in_the_scan_is_a_better_result(case):
    quiet, loud = (compare.compare(case, {}, noise=noise)[0]["cubic"] for noise in (0.0, 0.06))
    assert quiet > loud + 1


def test_a_worse_method_loses(case):
    rows = compare.compare(case, {"model": lambda scan: np.full((len(scan), 64, 64), 0.5, np.float32)})
    assert all(row["model"] < row["cubic"] for row in rows[:4])
    consistency = next(row for row in rows if row["metric"] == "consistency")
    assert consistency["model"] > 5 > consistency["cubic"]


def test_the_truth_itself_scores_full_marks(case):
    rows = compare.compare(case, {"truth": lambda scan: case.truth})
    values = {row["metric"]: row["truth"] for row in rows}
    assert values.pop("PSNR (dB)") == float("inf")
    assert values.pop("consistency") == pytest.approx(1, abs=0.1)
    assert values == {"SSIM": 1, "gradient correlation": 1, "gradient energy": 1, "spurious bone per cm3": 0}


def test_without_a_voxel_size_nothing_is_counted_per_volume(case):
    assert all("cm3" not in row["metric"] for row in compare.compare(replace(case, spacing_mm=None), {}))


def test_held_out_bone_is_averaged_within_the_held_out_slices():
    voxels = np.zeros((14, 21, 20), np.uint8)
    voxels[6:] = np.random.default_rng(0).integers(0, 255, (8, 21, 20))
    native, halved = compare.held_out_bone(Volume(voxels, Grid((20, 21, 14), (0.02,) * 3)), 6, (1, 2))
    assert native.truth.shape == (8, 20, 20) and halved.truth.shape == (4, 10, 10)
    assert "native 0.02 mm" in native.name and "averaged to 0.04 mm" in halved.name
    assert halved.spacing_mm == (0.04,) * 3
    assert native.truth[0].std() > 0.2


def test_the_robust_window_ignores_a_few_extremes_and_evens_the_size():
    voxels = np.linspace(100, 200, 5 * 21 * 31).reshape(5, 21, 31)
    voxels[0, 0, 0], voxels[-1, -2, -2] = -1e6, 1e6
    image = compare.in_robust_window(Volume(voxels, Grid((31, 21, 5))))
    assert image.shape == (5, 20, 30) and image.dtype == np.float32
    assert image.min() == 0 and image.max() == 1 and 0.4 < np.median(image) < 0.6

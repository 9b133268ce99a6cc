"""The overview of a scan that a panel shows, against the look at all voxels."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.apply.plan_checks import spacing_suspicion
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.scan.field_of_view import find_blanks
from CBCTSuperResLib.scan.overview import overview_of
from CBCTSuperResLib.scan.window_choice import choose_window, choose_window_for_sample


def cylinder(size=(150, 160, 110), radius=55, centre=(72, 80)) -> Volume:
    """Tissue of three kinds in a cylinder along k, blank outside; more voxels than an overview takes."""
    ni, nj, nk = size
    k, j, i = np.meshgrid(np.arange(nk), np.arange(nj), np.arange(ni), indexing="ij", sparse=True)
    noise = np.random.default_rng(0).integers(-40, 40, (nk, nj, ni))
    voxels = np.where(i > 80, 1200, 300) + np.where((j > 90) & (i > 80), 1000, 0) + noise
    voxels = np.where(np.hypot(i - centre[0], j - centre[1]) <= radius, voxels, -1000)
    return Volume(voxels.astype(np.int16), Grid(size, (0.3, 0.3, 0.3)))


def test_the_measured_box_encloses_the_field_of_view_closely():
    volume = cylinder()
    seen = overview_of(volume)
    assert seen.step == 2 and seen.blanks
    for (start, stop), (first, end), slack in zip(
        seen.measured, ((17, 128), (25, 136), (0, 110)), (2 * seen.step + 2,) * 3, strict=True
    ):
        assert first - slack <= start <= first and end <= stop <= end + slack


def test_without_blanks_the_measured_box_is_the_volume():
    voxels = np.random.default_rng(0).integers(0, 3000, (7, 9, 11)).astype(np.uint16)
    assert overview_of(Volume(voxels, Grid((11, 9, 7)))).measured == ((0, 11), (0, 9), (0, 7))


def test_the_window_of_an_overview_is_nearly_that_of_the_whole_scan():
    volume = cylinder()
    seen = overview_of(volume)
    quick = choose_window_for_sample(seen.sample, seen.levels, None, None)
    thorough = choose_window(volume.voxels, find_blanks(volume), None, None)
    assert quick.window.lo == pytest.approx(thorough.window.lo, abs=0.02 * thorough.window.width)
    assert quick.window.hi == pytest.approx(thorough.window.hi, abs=0.02 * thorough.window.width)
    assert seen.blanks.share == pytest.approx(find_blanks(volume).share, abs=0.02)


def test_what_a_window_clips_of_a_roi_is_nearly_that_of_all_its_voxels():
    volume = cylinder()
    seen, blanks, window = overview_of(volume), find_blanks(volume), (200, 1250)
    for roi in (((81, 120), (91, 120), (3, 60)), ((30, 80), (40, 90), (0, 110)), ((60, 81), (60, 62), (109, 110))):
        part = seen.sample_within(roi)
        quick = choose_window_for_sample(seen.sample, seen.levels, window, None, part)
        thorough = choose_window(volume.voxels, blanks, window, None, roi[::-1])
        assert quick.clipped_above == pytest.approx(thorough.clipped_above, abs=0.03) and part.size > 0
        assert quick.window == thorough.window


def test_limits_leave_out_what_hardly_ever_occurs():
    voxels = np.random.default_rng(0).integers(0, 1000, (10, 100, 100)).astype(np.int32)
    voxels[5, 50, 50] = 1_000_000
    seen = overview_of(Volume(voxels, Grid((100, 100, 10))))
    lo, hi = seen.limits
    assert 0 <= lo < 10 and 990 < hi < 1000
    assert seen.histogram(lo, hi, 32).sum() == pytest.approx(voxels.size, rel=0.01)


def test_what_is_no_scan_is_refused_at_a_overview_of():
    with pytest.raises(InputError, match="label"):
        overview_of(Volume((np.indices((20, 20, 20)).sum(0) // 15).astype(np.uint8), Grid((20, 20, 20))))


@pytest.mark.parametrize(("spacing", "suspicious"), [((1, 1, 1), True), ((1, 1, 1.2), False), ((0.2, 0.2, 0.2), False)])
def test_a_lost_spacing_is_noticed(spacing, suspicious):
    assert bool(spacing_suspicion(Grid((4, 4, 4), spacing))) is suspicious

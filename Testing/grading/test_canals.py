"""Root canals are counted where they are, and false ones where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.scanner import P2
from CBCTSuperResLib.core.interpolate import enlarge_slice

from grading.canals import (
    CanalPhantom,
    CrossSection,
    canal_phantom,
    count_canals,
)


@pytest.fixture(scope="module")
def phantom() -> CanalPhantom:
    return canal_phantom(901, slices=6)


def test_the_truth_shows_every_canal_and_no_false_one(phantom):
    counts = count_canals(phantom.truth, phantom)
    assert counts.sensitivity == 1 and counts.false_rate == 0
    assert counts.canals >= 12 and counts.free >= 12


def test_canals_are_as_thin_as_the_question_asks(phantom):
    widths = [section.width_mm for section in phantom.sections if section.width_mm]
    assert min(widths) >= 0.2 and max(widths) <= 0.4


def test_interpolation_of_a_coarse_scan_loses_most_canals(phantom):
    coarse = P2.degrade(phantom.truth, seed=1)
    enlarged = np.stack([enlarge_slice(image, phantom.truth.shape[1:]) for image in coarse])
    assert count_canals(enlarged, phantom).sensitivity < 0.5


def test_a_flat_image_shows_none_and_a_dark_one_shows_them_everywhere(phantom):
    flat = count_canals(np.full_like(phantom.truth, 0.8), phantom)
    assert flat.found == flat.false == 0
    dark = count_canals(np.zeros_like(phantom.truth), phantom)
    assert dark.sensitivity == dark.false_rate == 1


def test_one_dark_voxel_is_no_false_canal_and_two_that_touch_are_one():
    root = CrossSection(slice=0, centre=(10.0, 10.0), radius=5.0, width_mm=0.0)
    image = np.ones((1, 20, 20), np.float32)
    phantom = CanalPhantom(image, 0.1, (root,), 0.5)
    image[0, 10, 8] = image[0, 13, 12] = image[0, 2, 2:5] = 0
    assert count_canals(image, phantom).false == 0
    image[0, 11, 9] = 0
    assert count_canals(image, phantom).false == 1
    assert np.isnan(count_canals(image, phantom).sensitivity)

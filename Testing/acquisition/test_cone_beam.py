"""Projection and reconstruction give the object back."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import Cancelled, OptionError

torch = pytest.importorskip("torch", reason="torch is not installed")

from CBCTSuperResLib.acquisition.cone_beam import (  # noqa: E402
    PER_LEVEL,
    WATER_PER_MM,
    ConeBeam,
    Detector,
    cone_beam_scan,
    project,
)

QUIET = ConeBeam(projections=72, photons=None)


@pytest.fixture(scope="module")
def cylinder() -> np.ndarray:
    """A cylinder of level 0.1 with a bright ball off its axis, in air; half a millimetre a voxel."""
    z, y, x = (np.indices((24, 40, 40)) - np.array([11.5, 19.5, 19.5])[:, None, None, None]).astype(np.float32)
    field = np.full(z.shape, -0.8, np.float32)
    field[(np.hypot(x, y) < 16) & (np.abs(z) < 9)] = 0.1
    field[np.sqrt((x - 6) ** 2 + (y - 3) ** 2 + z**2) < 4] = 0.8
    return field


def test_a_ray_through_the_middle_of_a_slab_measures_its_attenuation():
    slab = torch.zeros(9, 40, 40)
    slab[:, 10:30] = 0.02
    rays = project(slab, 0.5, np.pi / 2, 400.0, Detector(9, 41, 0.25))
    assert float(rays[4, 20]) == pytest.approx(0.02 * 10, rel=0.01)


def test_levels_come_back_where_they_were(cylinder):
    found = cone_beam_scan(cylinder, 0.5, 0.5, QUIET)
    assert found.shape == cylinder.shape
    assert found[11:13, 22:24, 25:27].mean() == pytest.approx(0.8, abs=0.03)
    assert found[8:16, 10:30, 8:18].mean() == pytest.approx(0.1, abs=0.02)
    assert found[8:16, :3, :3].mean() == pytest.approx(-0.8, abs=0.05)


def test_coarser_voxels_cover_the_same_extent(cylinder):
    found = cone_beam_scan(cylinder, 0.5, 1.0, QUIET)
    assert found.shape == (12, 20, 20)
    assert np.unravel_index(np.argmax(found), found.shape)[1:] in {(10, 12), (11, 12), (10, 13), (11, 13)}


def test_fewer_photons_make_more_noise_and_the_seed_decides_it(cylinder):
    runs = [cone_beam_scan(cylinder, 0.5, 1.0, ConeBeam(projections=36, photons=p), seed=1) for p in (1e3, 1e3, 1e5)]
    spread = [run[4:8, 8:12, 4:8].std() for run in runs]
    assert np.array_equal(runs[0], runs[1]) and spread[0] > 3 * spread[2]


def test_bad_geometry_is_refused_and_cancelling_ends_it(cylinder):
    assert pytest.approx(0) == WATER_PER_MM - 0.8 * PER_LEVEL
    with pytest.raises(OptionError):
        ConeBeam(projections=2)
    with pytest.raises(OptionError, match="inside"):
        cone_beam_scan(cylinder, 20.0, 20.0, QUIET)
    with pytest.raises(Cancelled):
        cone_beam_scan(cylinder, 0.5, 0.5, QUIET, cancelled=lambda: True)

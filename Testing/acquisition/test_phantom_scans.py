"""Phantoms as files, from a drawn jaw and from a label map."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib import cli
from CBCTSuperResLib.acquisition.anatomy import STANDARD_LEVELS
from CBCTSuperResLib.acquisition.label_map import phantom_of_labels, read_label_map
from CBCTSuperResLib.acquisition.phantom_files import PhantomRequest, make_phantom
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume

SMALL = {"shape": (16, 96, 96), "spacing_mm": 0.2}


@pytest.fixture(scope="module")
def labels() -> Volume:
    """A block of jaw with a tooth in it and a canal below, 0.5 mm a voxel, on an oblique grid."""
    voxels = np.zeros((40, 60, 60), np.int16)
    voxels[8:28, 15:45, 15:45] = 2
    voxels[18:36, 25:35, 25:35] = 4
    voxels[11:15, 28:32, 15:45] = 5
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    return Volume(voxels, Grid((60, 60, 40), (0.5, 0.5, 0.5), (10.0, -20.0, 5.0), turn))


def test_fine_and_coarse_cover_the_same_place_and_are_the_same_every_time():
    scans = make_phantom(PhantomRequest(**SMALL))
    corner = [g.index_to_point @ [-0.5, -0.5, -0.5, 1] for g in (scans.fine.grid, scans.coarse.grid)]
    assert corner[0] == pytest.approx(corner[1])
    assert scans.coarse.grid.size == (48, 48, 16)
    again = make_phantom(PhantomRequest(**SMALL))
    assert np.array_equal(scans.coarse.voxels, again.coarse.voxels)
    assert not np.array_equal(scans.coarse.voxels, make_phantom(PhantomRequest(**SMALL, seed=1)).coarse.voxels)


def test_noise_artefacts_and_blank_region_can_be_left_out():
    plain = make_phantom(PhantomRequest(**SMALL, noise=0.0, artefacts=False, blank=None))
    noisy = make_phantom(PhantomRequest(**SMALL, noise=0.05))
    assert (noisy.coarse.voxels[:, 0, 0] == 0).all() and (plain.coarse.voxels[:, 0, 0] > 1000).all()
    air = plain.truth.voxels[:, ::2, ::2] < STANDARD_LEVELS.air + 1e-4
    assert plain.coarse.voxels[air].std() < noisy.coarse.voxels[air & (noisy.coarse.voxels > 0)].std()


def test_tissues_are_drawn_where_the_labels_say(labels):
    field, grid = phantom_of_labels(labels, 0.25, shape=(64, 96, 96))
    levels = STANDARD_LEVELS

    def level_at(index_in_labels: tuple[float, float, float]) -> float:
        point = labels.grid.index_to_point @ [*index_in_labels, 1]
        i, j, k = np.rint(np.linalg.solve(grid.index_to_point, point)[:3]).astype(int)
        return float(field[k, j, i])

    assert level_at((30, 30, 33)) > levels.dentin - 0.05  # crown
    assert level_at((15.5, 30, 20)) == pytest.approx(levels.bone, abs=0.05)  # cortex
    assert level_at((40, 29.5, 12.5)) == pytest.approx(levels.soft, abs=0.05)  # canal
    assert level_at((8, 30, 20)) == pytest.approx(levels.soft, abs=0.05)  # soft tissue beside the bone
    spread = field[(field > levels.marrow - 0.02) & (field < levels.bone + 0.02)]
    assert len(np.unique(spread.round(2))) > 20  # trabeculae have anti-aliased edges


def test_the_middle_is_in_the_teeth_and_a_place_outside_is_refused(labels):
    _, grid = phantom_of_labels(labels, 0.25, shape=(16, 32, 32))
    middle = (grid.index_to_point @ [15.5, 15.5, 7.5, 1])[:3]
    expected = (labels.grid.index_to_point @ [29.5, 29.5, 26.5, 1])[:3]
    assert middle == pytest.approx(expected, abs=0.3)
    with pytest.raises(InputError, match="outside"):
        phantom_of_labels(labels, 0.25, centre_mm=(500, 0, 0), shape=(16, 32, 32))
    with pytest.raises(InputError, match="none of the labels"):
        phantom_of_labels(Volume(np.zeros((8, 8, 8), np.int16), Grid((8, 8, 8), (1,) * 3)), 0.5)


def test_the_command_writes_scans_that_can_be_read_and_says_what_they_are(tmp_path, labels):
    image = sitk.GetImageFromArray(labels.voxels)
    image.SetSpacing(labels.spacing)
    sitk.WriteImage(image, str(tmp_path / "Zähne 1.nrrd"))
    out = tmp_path / "Phantom mit Namen"
    arguments = [
        "phantom",
        "--out",
        out,
        "--shape",
        16,
        64,
        64,
        "--spacing",
        0.25,
        "--labels",
        tmp_path / "Zähne 1.nrrd",
    ]
    assert cli.main([str(a) for a in arguments]) == 0
    fine, coarse = (Volume.read(out / f"{name}.nrrd") for name in ("fine", "coarse"))
    assert fine.grid.size == (64, 64, 16) and coarse.grid.size == (32, 32, 16)
    assert json.loads((out / "phantom.json").read_text())["spacing_mm"] == 0.25
    assert (out / "picture.png").stat().st_size > 1000


def test_requests_that_make_no_sense_are_refused(tmp_path):
    for wrong in ({"shape": (15, 64, 64)}, {"spacing_mm": 9}, {"noise": 2}, {"planes": "oblique"}, {"physics": "fdk"}):
        with pytest.raises(OptionError):
            PhantomRequest(**wrong)
    (tmp_path / "no.nrrd").write_text("nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_label_map(tmp_path / "no.nrrd")

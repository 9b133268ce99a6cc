"""Public scans: the list that ships, the part that may be trained on, and what is said when a scan is missing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.train.data import public


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small scan of its own in a folder, listed as "bone"; slices k >= 6 are held out."""
    folder = tmp_path / "Übung mit Platz"
    folder.mkdir()
    voxels = np.random.default_rng(0).integers(0, 200, (9, 20, 24)).astype(np.uint8)
    Volume(voxels, Grid((24, 20, 9), (0.02, 0.02, 0.02))).write(folder / "bone.nrrd")
    scan = public.PublicScan(
        name="bone",
        title="a bone",
        file="bone.nrrd",
        origin="here",
        licence="MIT",
        sha256="0" * 64,
        voxels_sha256=public.voxels_sha256(voxels),
        spacing_mm=(0.02, 0.02, 0.02),
        train_slices=(0, 6),
        averages=(1, 2),
        held_out="slices k >= 6",
    )
    tooth = replace(scan, name="tooth", train_slices=None)
    monkeypatch.setattr(public, "public_scans", lambda: {"bone": scan, "tooth": tooth})
    return folder


def _change(path, slices) -> None:
    volume = Volume.read(path)
    voxels = volume.voxels.copy()
    voxels[slices] = 255
    Volume(voxels, volume.grid).write(path)


def test_the_shipped_list_names_origin_licence_and_hash_and_holds_the_tooth_out():
    scans = public.public_scans()
    assert scans["tooth"].train_slices is None
    assert scans["trabecular"].train_slices == (0, 140)
    for scan in scans.values():
        assert scan.origin and scan.licence and scan.held_out
        assert len(scan.sha256) == len(scan.voxels_sha256) == 64


def test_the_shipped_hashes_are_those_of_the_scans(shared_data):
    for scan in public.public_scans().values():
        assert public.file_sha256(shared_data / scan.file) == scan.sha256
        assert public.voxels_sha256(scan.read(shared_data).voxels) == scan.voxels_sha256


def test_slices_come_from_the_training_part_alone_along_all_axes_and_averages(folder):
    slices = public.PublicSlices(["bone"], folder, size=16)
    assert len(slices) == len(slices.names) == (6 + 20 + 24) + (3 + 10 + 12)
    part = Volume.read(folder / "bone.nrrd").voxels[:6].astype(np.float32)
    low, high = np.percentile(part, (0.5, 99.5))
    expected = ((part - low) / (high - low))[2]
    assert slices[2].dtype == np.float32
    np.testing.assert_allclose(slices[2], expected, atol=1e-3)


def test_a_held_out_slice_changes_nothing_that_is_trained_on(folder, monkeypatch):
    before = public.PublicSlices(["bone"], folder, size=16)
    _change(folder / "bone.nrrd", slice(6, None))
    monkeypatch.setattr(public, "voxels_sha256", lambda voxels: public.public_scans()["bone"].voxels_sha256)
    after = public.PublicSlices(["bone"], folder, size=16)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_small_slices_are_continued_by_mirroring(folder):
    image = public.PublicSlices(["bone"], folder, size=30)[0]
    assert image.shape == (30, 30)
    np.testing.assert_array_equal(image[20:30], image[19:9:-1])
    np.testing.assert_array_equal(image[:, 24:], image[:, 23:17:-1])


def test_slabs_are_of_neighbours_and_every_second_of_slices_twice_as_thick(folder):
    slices = public.PublicSlices(["bone"], folder, size=16, slices=1)
    thin, thick = slices.slab(2), np.stack(slices.slab(3)).astype(np.float64)
    assert all(np.array_equal(a, b) for a, b in zip(thin, (slices[1], slices[2], slices[3]), strict=True))
    assert np.array_equal(slices.slab(0)[0], slices.slab(0)[2])
    axial = np.stack([slices[n] for n in range(6)]).astype(np.float64)
    assert np.corrcoef(thick[1].ravel(), (axial[3] + axial[4]).ravel())[0, 1] > 0.9
    assert np.corrcoef(thick[2].ravel(), axial[5].ravel())[0, 1] > 0.9
    assert thick[1].std() < 0.8 * axial[3].std()


def test_what_is_missing_is_said_with_what_it_means(folder, tmp_path):
    assert public.missing_scans(["bone"], folder) == []
    (sentence,) = public.missing_scans(["bone"], tmp_path)
    assert "a bone" in sentence and "bone.nrrd" in sentence and str(tmp_path) in sentence
    assert "path.public_data" in public.missing_scans(["bone"], None)[0]
    with pytest.raises(InputError, match="another model"):
        public.PublicSlices(["bone"], tmp_path, size=16)


def test_another_scan_of_the_same_name_is_refused(folder):
    _change(folder / "bone.nrrd", 0)
    with pytest.raises(InputError, match="SHA256"):
        public.PublicSlices(["bone"], folder, size=16)


def test_unknown_and_held_out_scans_are_refused_by_name(folder):
    with pytest.raises(OptionError, match="bones.*Known: bone, tooth"):
        public.scans_to_train_on(["bones"])
    with pytest.raises(OptionError, match="'tooth' is held out.*Usable: bone"):
        public.scans_to_train_on(["tooth"])


def test_the_description_for_a_card_is_json(folder):
    (facts,) = json.loads(json.dumps(public.PublicSlices(["bone"], folder, size=16).describe()))
    assert facts["slices"] == [0, 6] and facts["voxel_sizes_mm"] == [0.02, 0.04]
    assert facts["licence"] == "MIT" and len(facts["sha256"]) == 64

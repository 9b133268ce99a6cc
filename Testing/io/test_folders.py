"""Which scans lie in a folder, and what is left out and named: one rule for all commands."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.folders import LeftOut, find_scans, told
from CBCTSuperResLib.io.read import read_volume
from CBCTSuperResLib.io.write import write_volume
from CBCTSuperResLib.prepare.folders import find_pairs
from CBCTSuperResLib.train.data.files import list_entries
from dicom_files import PIXEL, image, ramp, save, write_slices
from helpers import make_volume

VOXELS = ramp()
Z = PIXEL * np.arange(8)


@pytest.fixture
def mixed(tmp_path):
    """a.nrrd, the DICOM folder b (with a volume, notes and an empty slice in it), an empty folder and notes."""
    write_volume(make_volume(), tmp_path / "a.nrrd")
    write_slices(tmp_path / "b", VOXELS, Z)
    write_volume(make_volume(), tmp_path / "b" / "segmentation.nrrd")
    (tmp_path / "b" / "notes.txt").write_text("seen")
    (tmp_path / "b" / "IM0099.dcm").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "notes.txt").write_text("seen")
    (tmp_path / ".hidden").touch()
    return tmp_path


def sentences(left_out, folder) -> str:
    return " ".join(told(left_out, folder))


def test_volumes_and_folders_of_slices_are_scans_side_by_side(mixed):
    scans, left_out = find_scans(mixed)
    assert scans == [mixed / "a.nrrd", mixed / "b"]
    text = sentences(left_out, mixed)
    assert all(part in text for part in ("b/segmentation.nrrd", "b/notes.txt", "notes.txt", "c (a folder without"))
    assert "hidden" not in text


def test_a_folder_of_dicom_is_one_scan_and_reading_it_names_the_rest(mixed):
    assert find_scans(mixed / "b")[0] == [mixed / "b"]
    volume = read_volume(mixed / "b")
    assert np.array_equal(volume.voxels, VOXELS)
    text = " ".join(volume.report["warnings"])
    assert "1 file could not be read: IM0099.dcm (an empty file)" in text
    assert "segmentation.nrrd" in text and "notes.txt" in text


def test_the_folders_of_prepare_follow_the_rule(mixed):
    items, unpaired, left_out = find_pairs(mixed, mixed)
    assert [item.name for item in items] == ["a", "b"] and unpaired == []
    assert any("segmentation.nrrd" in sentence for sentence in left_out)


def test_a_training_follows_the_rule(mixed, caplog):
    with caplog.at_level(logging.WARNING):
        entries = list_entries(mixed)
    assert [(entry.name, entry.is_volume) for entry in entries] == [("a", True), ("b", True)]
    assert "segmentation.nrrd" in caplog.text and "notes.txt" in caplog.text


def test_a_training_takes_slices_beside_volumes(mixed):
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS[0]), str(mixed / "slice.tif"))
    assert [entry.name for entry in list_entries(mixed)] == ["a", "slice", "b"]


def test_a_folder_of_pictures_is_one_scan_and_reading_it_names_the_rest(tmp_path):
    for k, pixels in enumerate(VOXELS):
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / f"slice{k}.tif"))
    (tmp_path / "scan.log").write_text("log")
    (tmp_path / "copies").mkdir()
    assert find_scans(tmp_path)[0] == [tmp_path]
    volume = read_volume(tmp_path, spacing=(1, 1, 1))
    assert np.array_equal(volume.voxels, VOXELS)
    text = " ".join(volume.report["warnings"])
    assert "scan.log" in text and "copies" in text


def test_a_picture_beside_volumes_is_named(tmp_path):
    write_volume(make_volume(), tmp_path / "a.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS[0]), str(tmp_path / "screen.png"))
    scans, left_out = find_scans(tmp_path)
    assert scans == [tmp_path / "a.nrrd"] and "screen.png (a picture beside volumes)" in sentences(left_out, tmp_path)


def test_a_folder_of_volumes_is_no_scan_to_read(tmp_path):
    write_volume(make_volume(), tmp_path / "a.nrrd")
    for k in range(3):
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS[k]), str(tmp_path / f"slice{k}.tif"))
    assert find_scans(tmp_path)[0] == [tmp_path / "a.nrrd"]
    with pytest.raises(InputError, match="each a scan of its own: a.nrrd, beside 3 pictures"):
        read_volume(tmp_path, spacing=(1, 1, 1))


def test_results_of_earlier_runs_are_named_and_their_reports_are_not(tmp_path):
    for name in ("a.nrrd", "a SR x2.nrrd"):
        write_volume(make_volume(), tmp_path / name)
    (tmp_path / "a SR x2.nrrd.json").write_text("{}")
    scans, left_out = find_scans(tmp_path)
    assert scans == [tmp_path / "a.nrrd"]
    assert sentences(left_out, tmp_path) == "Left out: a SR x2.nrrd (the result of an earlier run)."


def test_dicom_results_of_earlier_runs_are_named_and_other_notes_hide_no_scan(tmp_path):
    for name, told_by in (("P1", '{"age": 40}'), ("P1 SR", '{"super_resolution": {}}')):
        write_slices(tmp_path / name, VOXELS, Z)
        (tmp_path / f"{name}.json").write_text(told_by)
    scans, left_out = find_scans(tmp_path)
    assert scans == [tmp_path / "P1"]
    assert sentences(left_out, tmp_path) == "Left out: P1 SR (the result of an earlier run); P1.json (no scan)."


def test_scans_are_found_below_patients_and_studies(tmp_path):
    write_slices(tmp_path / "P1" / "study" / "series", VOXELS, Z)
    write_slices(tmp_path / "P2" / "study" / "other", VOXELS, Z)
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    scans, left_out = find_scans(tmp_path)
    assert scans == [tmp_path / "P1" / "study" / "series", tmp_path / "P2" / "study" / "other"]
    assert "DICOMDIR" in sentences(left_out, tmp_path)


def test_dicom_files_without_an_ending_are_found(tmp_path):
    for file in write_slices(tmp_path, VOXELS, Z):
        file.rename(file.with_suffix(""))
    assert find_scans(tmp_path)[0] == [tmp_path]
    assert np.array_equal(read_volume(tmp_path).voxels, VOXELS)


def test_a_folder_whose_dicom_files_cannot_be_read_tells_why(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.dcm").write_bytes(b"This is no image. " * 20)
    with pytest.raises(InputError, match="3 files could not be read: 0.dcm, 1.dcm, 2.dcm .no DICOM file"):
        read_volume(tmp_path)


def test_many_files_are_counted_and_few_of_them_named(tmp_path):
    for k in range(21):
        (tmp_path / f"{k:02d}.dcm").write_bytes(b"This is no image. " * 20)
    with pytest.raises(InputError, match="21 files could not be read: 00.dcm, 01.dcm, 02.dcm, 03.dcm and 17 more"):
        read_volume(tmp_path)


def test_a_dicom_object_that_is_no_image_is_named(tmp_path):
    write_slices(tmp_path, VOXELS, Z)
    report = image(VOXELS[0], "1.2.840.10008.5.1.4.1.1.88.11")
    del report.Rows, report.PixelData
    save(report, tmp_path / "report.dcm")
    volume = read_volume(tmp_path)
    assert "report.dcm (no image (Basic Text SR Storage))" in " ".join(volume.report["warnings"])


def test_patterns_name_what_they_leave_out(tmp_path):
    write_volume(make_volume(), tmp_path / "a.nrrd")
    (tmp_path / "a.txt").touch()
    scans, left_out = find_scans(str(tmp_path / "a*"))
    assert scans == [tmp_path / "a.nrrd"] and "a.txt" in sentences(left_out, None)


def test_reasons_are_listed_up_to_a_few(tmp_path):
    text = told([LeftOut(tmp_path / str(k), f"reason {k}") for k in range(9)])[0]
    assert text == "Left out: 0 (reason 0); 1 (reason 1); 2 (reason 2); 3 (reason 3); and 5 more."

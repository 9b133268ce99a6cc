"""A volume as a derived DICOM series: places, grey values, whose it is, and nothing left where that fails."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import Cancelled, OptionError, OutputError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io import dicom_write
from CBCTSuperResLib.io.dicom_write import Derivation, patient_of, source_of, write_dicom
from CBCTSuperResLib.io.read import read_volume
from CBCTSuperResLib.io.volume import Volume
from dicom_files import PIXEL, enhanced, heights, ramp, save, write_slices
from helpers import make_grid, make_volume

ABOUT = Derivation("Super-resolution x2 by the model light. Detail is predicted.", "SR x2", (-1000, 3000), "0.2.0")
JANE = {"PatientName": "Doe^Jane", "PatientID": "P1"}
TYPE_1 = (  # of the modules that PS3.3 A.3 (CT Image) makes mandatory: there, with a value
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("ImageType", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel"),
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelData", "RescaleIntercept", "RescaleSlope", "RescaleType"),
)
TYPE_2 = (  # there, perhaps empty
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("ReferringPhysicianName", "AccessionNumber", "SeriesNumber", "PatientPosition", "PositionReferenceIndicator"),
    *("Manufacturer", "InstanceNumber", "SliceThickness", "KVP", "AcquisitionNumber"),
)
VOXELS = ramp()
Z = PIXEL * np.arange(8)


def images(folder) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def test_places_are_exact_for_pydicom_simpleitk_and_us(tmp_path):
    volume = make_volume((5, 6, 7), "int16", spacing=(0.123456789, 0.2, 0.0987654321))
    write_dicom(volume, tmp_path / "out", ABOUT, JANE)
    for k, image in enumerate(images(tmp_path / "out")):
        assert np.allclose(image.ImagePositionPatient, volume.grid.point((0, 0, k)), atol=1e-6)
        assert np.allclose(image.ImageOrientationPatient, volume.direction[:, :2].T.ravel(), atol=1e-9)
        assert np.allclose(image.PixelSpacing, (volume.spacing[1], volume.spacing[0]), rtol=1e-9)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "out")))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.voxels)
    for index in ((0, 0, 0), (6, 5, 4), (3, 0, 4)):
        assert np.allclose(image.TransformIndexToPhysicalPoint(index), volume.grid.point(index), atol=1e-4)
    back = read_volume(tmp_path / "out")
    assert np.array_equal(back.voxels, volume.voxels)
    assert np.allclose(back.grid.index_to_point, volume.grid.index_to_point, atol=1e-6)


def test_left_handed_and_tilted_volumes_keep_every_voxel_in_its_place(tmp_path):
    left, tilted = np.diag([1.0, 1.0, -1.0]), np.array([[1, 0, 0], [0, 1, 0.1], [0, 0, np.sqrt(0.99)]])
    for name, direction in (("left", left), ("tilted", tilted)):
        volume = Volume(VOXELS, Grid((7, 6, 8), (0.2, 0.3, 0.4), (1, 2, 3), direction))
        write_dicom(volume, tmp_path / name, ABOUT, JANE)
        back = read_volume(tmp_path / name)
        for index in ((0, 0, 0), (6, 5, 7), (2, 1, 4)):
            found = np.linalg.inv(back.grid.index_to_point) @ [*volume.grid.point(index), 1]
            i, j, k = np.rint(found[:3]).astype(int)
            assert np.allclose(found[:3], (i, j, k), atol=1e-4)
            assert back.voxels[k, j, i] == volume.voxels[index[2], index[1], index[0]]


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_grey_values_of_every_type_come_back(tmp_path, kind):
    volume = make_volume((4, 5, 6), kind)
    written = write_dicom(volume, tmp_path / "out", ABOUT, JANE)
    back = read_volume(tmp_path / "out").voxels
    span = float(volume.voxels.max()) - float(volume.voxels.min())
    limit = 0 if np.dtype(kind).itemsize <= 2 else 0.51 * span / 65535
    assert np.abs(back.astype(float) - volume.voxels).max() <= limit
    assert written["step"] == (1 if limit == 0 else pytest.approx(span / 65535, rel=1e-6))


def test_whole_numbers_of_a_short_range_are_stored_exactly(tmp_path):
    volume = Volume((VOXELS.astype("int32") - 70000), make_grid((7, 6, 8)))
    assert write_dicom(volume, tmp_path / "out", ABOUT, JANE)["step"] == 1
    assert np.array_equal(read_volume(tmp_path / "out").voxels, volume.voxels)


def test_the_series_says_what_it_is(tmp_path):
    written = write_dicom(make_volume(), tmp_path / "out", ABOUT, JANE)
    made = images(tmp_path / "out")
    first = made[0]
    assert list(first.ImageType)[:2] == ["DERIVED", "SECONDARY"] and first.SOPClassUID.name == "CT Image Storage"
    assert first.DerivationDescription == ABOUT.description and first.SeriesDescription == "SR x2"
    assert (first.WindowCenter, first.WindowWidth) == (1000, 4000)
    assert (str(first.PatientName), first.PatientID) == ("Doe^Jane", "P1")
    assert written["series"] == first.SeriesInstanceUID and written["slices"] == len(made)
    for tag in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({image[tag].value for image in made}) == 1
    assert len({image.SOPInstanceUID for image in made}) == len(made)
    assert all(image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID for image in made)
    assert [image.InstanceNumber for image in made] == list(range(1, len(made) + 1))


def _source(folder):
    def more(k, dataset):
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "Müller^Jörg", "19700102", "M"
        dataset.SeriesDescription, dataset.StudyDescription = "Zähne fein", "Kiefer"
        dataset.PatientPosition, dataset.Manufacturer = "HFS", "Scanner & Söhne"
        dataset.WindowCenter, dataset.WindowWidth = [400, 50], [2000, 350]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{k}"
        dataset.private_block(0x0011, "SECRET", create=True).add_new(1, "LO", "private words")
        dataset.LossyImageCompression = "01"

    write_slices(folder, VOXELS, Z, more)
    return source_of(folder)


def test_a_source_gives_patient_study_frame_and_window_and_no_private_tags(tmp_path):
    source = _source(tmp_path / "in")
    patient = patient_of(source, None, None)
    write_dicom(read_volume(tmp_path / "in"), tmp_path / "out", ABOUT, patient, source)
    image = images(tmp_path / "out")[5]
    assert str(image.PatientName) == "Müller^Jörg" and image.PatientBirthDate == "19700102" and image.PatientID == "P1"
    assert image.StudyInstanceUID == "1.2" and image.FrameOfReferenceUID == "1.2.9"
    assert image.SeriesInstanceUID != "1.2.3" and image.SeriesNumber == 9004
    assert image.SeriesDescription == "Zähne fein SR x2" and image.PatientPosition == "HFS"
    assert list(image.WindowCenter) == [400, 50] and image.LossyImageCompression == "01"
    assert image.ContributingEquipmentSequence[0].Manufacturer == "Scanner & Söhne"
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert not [element for element in image.iterall() if element.tag.is_private]
    assert b"private words" not in sorted((tmp_path / "out").iterdir())[0].read_bytes()


def test_frames_of_a_source_are_referenced_by_number(tmp_path):
    path = save(enhanced(VOXELS[::-1].copy(), heights(Z[::-1])), tmp_path / "a.dcm")
    source = source_of(path)
    write_dicom(read_volume(path), tmp_path / "out", ABOUT, patient_of(source, None, None), source)
    reference = images(tmp_path / "out")[1].SourceImageSequence[0]
    assert reference.ReferencedFrameNumber == 7


def test_the_patient_must_be_known_and_must_not_be_another(tmp_path):
    assert source_of(tmp_path) is None
    with pytest.raises(OptionError, match="--patient-name"):
        patient_of(None, None, "P1")
    with pytest.raises(OptionError, match="--patient-id"):
        patient_of(None, "Doe^Jane", None)
    with pytest.raises(OptionError, match="backslashes"):
        patient_of(None, "a\\b", "P1")
    source = _source(tmp_path / "in")
    with pytest.raises(OptionError, match="Müller.*Doe"):
        patient_of(source, "Doe^Jane", None)
    assert patient_of(source, None, "P1")["PatientID"] == "P1"


def test_padding_is_declared_in_stored_values(tmp_path):
    volume = make_volume((4, 5, 6), "int16")
    write_dicom(Volume(volume.voxels, volume.grid, -2000.0), tmp_path / "out", ABOUT, JANE)
    assert read_volume(tmp_path / "out").padding_value == -2000


def test_what_dicom_cannot_hold_or_must_not_replace_is_refused(tmp_path):
    skewed = np.array([[1, 0.1, 0], [0, np.sqrt(0.99), 0], [0, 0, 1]])
    with pytest.raises(OutputError, match="right angles"):
        write_dicom(Volume(VOXELS, Grid((7, 6, 8), direction=skewed)), tmp_path / "a", ABOUT, JANE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(OutputError, match="no empty folder"):
        write_dicom(make_volume(), tmp_path / "full", ABOUT, JANE)
    with pytest.raises(OutputError, match="does not exist"):
        write_dicom(make_volume(), tmp_path / "no" / "where", ABOUT, JANE)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch, error):
    write, done = dicom_write.pydicom.dcmwrite, []

    def fail(file, image):
        if len(done) == 3:
            raise error
        done.append(file)
        write(file, image)

    monkeypatch.setattr(dicom_write.pydicom, "dcmwrite", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_dicom(make_volume(), tmp_path / "out", ABOUT, JANE)
    assert len(done) == 3 and list(tmp_path.iterdir()) == []


def test_cancelling_leaves_nothing_and_progress_is_told(tmp_path):
    told = []
    with pytest.raises(Cancelled):
        write_dicom(
            make_volume(), tmp_path / "out", ABOUT, JANE, None, lambda f, m: told.append(f), lambda: len(told) > 2
        )
    assert told == pytest.approx([1 / 7, 2 / 7, 3 / 7]) and list(tmp_path.iterdir()) == []


def test_what_was_written_wrongly_is_noticed(tmp_path, monkeypatch):
    write = dicom_write.pydicom.dcmwrite

    def displaced(file, image):
        image.ImagePositionPatient[0] = 5000
        write(file, image)

    monkeypatch.setattr(dicom_write.pydicom, "dcmwrite", displaced)
    with pytest.raises(OutputError, match="elsewhere"):
        write_dicom(make_volume(), tmp_path / "out", ABOUT, JANE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_every_attribute_that_a_ct_image_needs_is_there_and_every_value_is_valid(tmp_path, kind, monkeypatch):
    def odd(k, dataset):
        dataset.PatientName, dataset.SpecificCharacterSet = "M\u00fcller^J\u00f6rg", "ISO_IR 100"
        dataset.SeriesDescription, dataset.StudyID, dataset.KVP = "x" * 64, "1", "90.5"

    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    write_slices(tmp_path / "in", VOXELS, Z, odd)
    for number, source in enumerate((None, source_of(tmp_path / "in"))):
        patient = patient_of(source, None, None) if source else JANE
        write_dicom(make_volume(dtype=kind), tmp_path / f"out {number}", ABOUT, patient, source)
        made = images(tmp_path / f"out {number}")
        for image in made:
            assert [key for key in TYPE_1 if image.get(key) in (None, "", [])] == []
            assert [key for key in TYPE_2 if key not in image] == []
            assert not [element.tag for element in image.iterall() if element.tag.is_private]
            assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
            assert len(image.PixelData) == 2 * image.Rows * image.Columns and image.ImageType[2] == "AXIAL"
        assert len({image.SOPInstanceUID for image in made}) == len(made)
        assert len({image.SeriesInstanceUID for image in made}) == 1
        assert [image.InstanceNumber for image in made] == list(range(1, len(made) + 1))

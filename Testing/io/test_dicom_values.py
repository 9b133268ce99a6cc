"""Stored pixels of DICOM become grey values as their tags say, or are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.read import read_volume
from dicom_files import PIXEL, enhanced, heights, image, item, ramp, save, write_slices
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    RLELossless,
)

VOXELS = ramp()
Z = 5 + PIXEL * np.arange(8)


def read(folder, change, voxels=VOXELS) -> np.ndarray:
    write_slices(folder, voxels, Z[: len(voxels)], change)
    return read_volume(folder).voxels


def refused(folder, change, message, voxels=VOXELS) -> str:
    write_slices(folder, voxels, Z[: len(voxels)], change)
    with pytest.raises(InputError, match=message) as error:
        read_volume(folder)
    return str(error.value)


def test_an_inverted_display_does_not_change_grey_values(tmp_path):
    def inverted(k, dataset):
        dataset.PhotometricInterpretation, dataset.RescaleSlope, dataset.RescaleIntercept = "MONOCHROME1", 1, -1000

    assert np.array_equal(read(tmp_path, inverted), VOXELS.astype(int) - 1000)


def test_an_inverted_display_of_frames_does_not_either(tmp_path):
    dataset = enhanced(VOXELS, heights(Z))
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(read_volume(save(dataset, tmp_path / "a.dcm")).voxels, VOXELS)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", ["uint16", "int16", "uint8"])
def test_run_length_encoded_slices(tmp_path, photometric, kind):
    voxels = ramp(3, 32, 32).astype(int) % (4001 if kind != "uint8" else 251) - (600 if kind == "int16" else 0)
    voxels = voxels.astype(kind)

    def packed(k, dataset):
        dataset.PhotometricInterpretation, dataset.RescaleSlope, dataset.RescaleIntercept = photometric, 2, -100
        dataset.compress(RLELossless, generate_instance_uid=False)

    assert np.array_equal(read(tmp_path, packed, voxels), voxels.astype(int) * 2 - 100)


def test_run_length_encoded_frames_with_a_rescale_each(tmp_path):
    def rescale(n, frame):
        frame.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=-10 * n, RescaleType="HU")

    order = [3, 1, 2, 0, 7, 5, 6, 4]
    dataset = enhanced(VOXELS[order], heights(Z[order]), rescale)
    dataset.compress(RLELossless, generate_instance_uid=False)
    expected = VOXELS.astype(int) - 10 * np.argsort(order)[:, None, None]
    assert np.array_equal(read_volume(save(dataset, tmp_path / "a.dcm")).voxels, expected)


@pytest.mark.parametrize("coding", ["JPEG2000", "JPEG"])
def test_other_lossless_codings_give_the_same_grey_values(tmp_path, coding):
    voxels = ramp(4, 32, 32)
    for k, pixels in enumerate(voxels):
        picture = sitk.GetImageFromArray(pixels)
        tags = {"0020|0032": f"-10\\-20\\{Z[k]}", "0020|0037": "1\\0\\0\\0\\1\\0", "0028|0030": "0.25\\0.25"}
        tags |= {"0020|000e": "1.2.3", "0028|1052": "-1000", "0028|1053": "1", "0008|0060": "CT"}
        for key, value in tags.items():
            picture.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(coding)
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        writer.Execute(picture)
    expected = sitk.GetArrayFromImage(sitk.ReadImage([str(tmp_path / f"{k}.dcm") for k in range(4)]))
    assert np.array_equal(read_volume(tmp_path).voxels, expected)


def test_a_damaged_compressed_slice_is_no_volume(tmp_path):
    def packed(k, dataset):
        dataset.compress(RLELossless, generate_instance_uid=False)
        if k == 2:
            dataset.PixelData = dataset.PixelData[:60] + bytes(len(dataset.PixelData) - 60)

    refused(tmp_path, packed, "IM0003.dcm cannot be decoded .RLE Lossless")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_orders_of_bytes_and_deflated_files(tmp_path, syntax):
    big, implicit = syntax == ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    for k, pixels in enumerate(VOXELS):
        dataset = image(pixels)
        dataset.ImagePositionPatient, dataset.PixelSpacing = ["-10", "-20", str(Z[k])], [PIXEL, PIXEL]
        dataset.ImageOrientationPatient, dataset.RescaleSlope, dataset.RescaleIntercept = [1, 0, 0, 0, 1, 0], 1, -7
        dataset.file_meta.TransferSyntaxUID = syntax
        if big:
            dataset.PixelData = pixels.astype(">u2").tobytes()
            dataset.set_original_encoding(False, False)
        dataset.save_as(tmp_path / f"{k}.dcm", implicit_vr=implicit, little_endian=not big, enforce_file_format=True)
    assert np.array_equal(read_volume(tmp_path).voxels, VOXELS.astype(int) - 7)


def test_a_file_of_old_without_a_preamble(tmp_path):
    for file in write_slices(tmp_path, VOXELS, Z):
        file.write_bytes(file.read_bytes()[132:])
    assert np.array_equal(read_volume(tmp_path).voxels, VOXELS)


@pytest.mark.parametrize(("first", "kind"), [(100, "uint16"), (-400, "int16")])
def test_a_modality_look_up_table_is_applied(tmp_path, first, kind):
    voxels = (VOXELS.astype(int) + first - 100).astype(kind)
    table = np.arange(2000)[::-1] * 5 + 3

    def with_table(k, dataset):
        dataset.ModalityLUTSequence = item(ModalityLUTType="US")
        lut = dataset.ModalityLUTSequence[0]
        lut.add_new(0x00283002, "US" if first >= 0 else "SS", [2000, first, 16])
        lut.add_new(0x00283006, "OW", table.astype("<u2").tobytes())

    assert np.array_equal(read(tmp_path, with_table, voxels), table[voxels.astype(int) - first])


def test_a_look_up_table_in_some_slices_only_is_refused(tmp_path):
    def with_table(k, dataset):
        if k:
            dataset.ModalityLUTSequence = item(ModalityLUTType="US")
            dataset.ModalityLUTSequence[0].add_new(0x00283002, "US", [2000, 0, 16])
            dataset.ModalityLUTSequence[0].add_new(0x00283006, "OW", np.arange(2000, dtype="<u2").tobytes())

    refused(tmp_path, with_table, "Only 7 of 8 slices have a modality look-up table")


@pytest.mark.parametrize("high", [15, 13, 11])
def test_pixels_lie_below_their_high_bit(tmp_path, high):
    def placed(k, dataset):
        dataset.BitsStored, dataset.HighBit = 12, high
        dataset.PixelData = (VOXELS[k] << (high - 11)).tobytes()

    assert np.array_equal(read(tmp_path, placed), VOXELS)


@pytest.mark.parametrize("extended", [True, False])
def test_the_sign_is_that_of_the_stored_bits(tmp_path, extended):
    voxels = (VOXELS.astype(int) - 1500).astype("int16")

    def narrow(k, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 11
        if not extended:
            dataset.PixelData = (voxels[k].view("uint16") & 0xFFF).tobytes()

    assert np.array_equal(read(tmp_path, narrow, voxels), voxels)


def test_graphics_in_the_unused_bits_are_left_out(tmp_path):
    def drawn(k, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (VOXELS[k] | (k % 2) << 12).astype("uint16").tobytes()
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 12)

    assert np.array_equal(read(tmp_path, drawn), VOXELS)


def test_pixels_that_need_more_bits_than_announced_are_refused(tmp_path):
    def narrow(k, dataset):
        dataset.BitsStored, dataset.HighBit = 10, 9

    refused(tmp_path, narrow, "IM0008.dcm sets bits beyond the 10 of 16")


def test_bits_that_contradict_each_other_are_refused(tmp_path):
    def absurd(k, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 9

    refused(tmp_path, absurd, "16 bits allocated, 12 stored, the high bit is 9")


@pytest.mark.parametrize(("kind", "expected"), [("uint32", "uint16"), ("int32", "int16")])
def test_sixteen_bits_stored_in_thirty_two(tmp_path, kind, expected):
    voxels = (VOXELS.astype(int) * 50).astype(kind) if kind == "uint32" else (VOXELS.astype(int) - 600).astype(kind)

    def wide(k, dataset):
        dataset.BitsStored, dataset.HighBit = 16, 15

    back = read(tmp_path, wide, voxels)
    assert np.array_equal(back, voxels) and back.dtype == expected


def test_real_numbers_are_kept(tmp_path):
    voxels = (VOXELS / 7).astype("float32")

    def real(k, dataset):
        del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
        dataset.FloatPixelData = voxels[k].tobytes()

    assert np.array_equal(read(tmp_path, real, VOXELS.astype("uint32")), voxels)


def test_a_rescale_of_some_slices_only_is_refused(tmp_path):
    def some(k, dataset):
        if k not in (2, 5):
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1000

    refused(tmp_path, some, "2 of 8 slices have no Rescale Intercept.*IM0003.dcm")


def test_a_rescale_that_changes_nothing_may_be_missing(tmp_path):
    def some(k, dataset):
        if k > 3:
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0

    assert np.array_equal(read(tmp_path, some), VOXELS)


def test_a_rescale_of_each_slice_is_applied_to_it(tmp_path):
    def each(k, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{1 + 0.25 * k:g}", -k

    k = np.arange(8)[:, None, None]
    assert np.allclose(read(tmp_path, each), VOXELS * (1 + 0.25 * k) - k, rtol=1e-6)


def test_a_slope_of_zero_is_refused(tmp_path):
    def flat(k, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = 0, 5

    refused(tmp_path, flat, "Rescale Slope 0")


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR", "YBR_FULL"])
def test_colours_are_refused_by_name(tmp_path, photometric):
    def colour(k, dataset):
        dataset.PhotometricInterpretation = photometric
        if photometric != "PALETTE COLOR":
            dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
            dataset.PixelData = VOXELS[k].tobytes() * 3

    refused(tmp_path, colour, photometric)


def test_a_number_that_is_none_is_told(tmp_path):
    def comma(k, dataset):
        dataset.add_new(0x00281052, "LO", "-1000,5")

    text = refused(tmp_path, comma, "RescaleIntercept")
    assert "-1000,5" in text


def test_claims_that_the_file_cannot_hold_are_refused_before_anything_is_made(tmp_path):
    frames = image(VOXELS)
    frames.compress(RLELossless, generate_instance_uid=False)
    frames.NumberOfFrames = 60000
    save(frames, tmp_path / "frames.dcm")
    huge = image(VOXELS)
    huge.compress(RLELossless, generate_instance_uid=False)
    huge.Rows = huge.Columns = 65535
    huge.PixelSpacing, huge.SpacingBetweenSlices = [PIXEL, PIXEL], PIXEL
    save(huge, tmp_path / "huge.dcm")
    for name, message in (("frames", "claims 60000 frames in"), ("huge", "cannot be decoded")):
        with pytest.raises(InputError, match=message):
            read_volume(tmp_path / f"{name}.dcm")


def test_a_deflated_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    dataset = enhanced(np.zeros((8, 64, 64), "uint16"), heights(Z))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True)
    monkeypatch.setattr("CBCTSuperResLib.io.dicom_header.available_memory", lambda: 3 * 60_000)
    with pytest.raises(InputError, match="unpacks to more than"):
        read_volume(tmp_path / "a.dcm")
    monkeypatch.setattr("CBCTSuperResLib.io.dicom_header.available_memory", lambda: 3 * 80_000)
    with pytest.raises(InputError, match="same value"):  # whole, and nothing in it
        read_volume(tmp_path / "a.dcm")


def test_an_unknown_encoding_is_refused_by_its_uid(tmp_path):
    def private(k, dataset):
        dataset.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
        dataset.set_original_encoding(False, True)

    for k in range(2):
        dataset = image(VOXELS[k])
        private(k, dataset)
        dataset.save_as(tmp_path / f"{k}.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match="Transfer Syntax 1.2.840.113619.5.2"):
        read_volume(tmp_path)


def test_files_cut_off_anywhere_are_refused_as_damaged(tmp_path):
    whole = save(enhanced(VOXELS, heights(Z)), tmp_path / "whole.dcm").read_bytes()
    for end in range(0, len(whole), 97):
        (tmp_path / "cut.dcm").write_bytes(whole[:end])
        with pytest.raises(InputError):
            read_volume(tmp_path / "cut.dcm")


def test_a_rescale_of_two_values_is_refused(tmp_path):
    refused(tmp_path, lambda k, d: setattr(d, "RescaleSlope", ["1", "2"]), "RescaleSlope as 2 numbers")


def test_what_is_no_scan_is_refused_by_its_kind(tmp_path):
    for number, (sop_class, words) in enumerate(
        (
            ("1.2.840.10008.5.1.4.1.1.481.2", "a dose distribution"),
            ("1.2.840.10008.5.1.4.1.1.66.4", "a segmentation"),
            ("1.2.840.10008.5.1.4.1.1.66.7", "a segmentation"),
        )
    ):
        file = save(image(VOXELS, sop_class), tmp_path / f"{number}.dcm")
        with pytest.raises(InputError, match=words):
            read_volume(file)


def test_an_encoding_that_nothing_here_decodes_is_refused_by_its_name_and_not_as_damaged(tmp_path):
    dataset = image(VOXELS[0])
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(100)])
    with pytest.raises(InputError, match="High-Throughput JPEG 2000.*not read") as error:
        read_volume(save(dataset, tmp_path / "a.dcm"))
    assert "damaged" not in str(error.value)


def test_a_compression_with_loss_is_told(tmp_path):
    write_slices(tmp_path, VOXELS, Z, lambda k, d: setattr(d, "LossyImageCompression", "01" if k == 3 else "00"))
    assert "with loss" in " ".join(read_volume(tmp_path).report["warnings"])

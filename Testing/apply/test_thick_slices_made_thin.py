"""Thick slices made thin, by a network of any factor that stands for a trained one: all that a user may ask for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.phantom_files import PhantomRequest, make_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.apply.quality_measures import measure
from CBCTSuperResLib.apply.tiles import Axis
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.volume import as_acquired
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.scan.field_of_view import find_blanks
from CBCTSuperResLib.scan.window import Window
from helpers import make_grid, position_error_mm
from stub_networks import interpolating_points, stub_model

WINDOW = (26000.0, 46000.0)


@pytest.fixture(scope="module")
def phantom():
    """A jaw of 72 fine slices, and its scan with slices three times as thick."""
    return make_phantom(PhantomRequest(shape=(72, 80, 80), spacing_mm=0.3, thick_slices=3, blank=None, noise=0.01))


@pytest.fixture(scope="module")
def model():
    return stub_model(interpolating_points(), window=WINDOW)


def test_a_phantom_of_thick_slices_is_the_mean_over_their_thickness(phantom):
    truth, fine, coarse = phantom.truth, phantom.fine, phantom.coarse
    assert coarse.grid.size == (80, 80, 24)
    assert coarse.spacing == pytest.approx((0.3, 0.3, 0.9))
    assert position_error_mm(coarse.grid, truth.grid.resampled((80, 80, 24))) <= 1e-6
    joined = fine.voxels.reshape(24, 3, 80, 80).mean(1)
    assert np.corrcoef(joined.ravel(), coarse.voxels.ravel())[0, 1] > 0.99
    again = make_phantom(PhantomRequest(shape=(72, 80, 80), spacing_mm=0.3, thick_slices=3, blank=None, noise=0.01))
    assert np.array_equal(again.coarse.voxels, coarse.voxels)
    for wrong in ({"thick_slices": 5}, {"thick_slices": 0}, {"thick_slices": 2, "planes": "isotropic"}):
        with pytest.raises(OptionError):
            PhantomRequest(shape=(72, 80, 80), **wrong)


def test_edges_are_judged_from_the_side_where_only_the_distance_of_slices_has_changed(phantom):
    """The truth as the result: within axial slices its edges are as wide as the scan's, from the side much narrower."""
    fine, coarse = phantom.fine, phantom.coarse
    axes = [Axis(24, 0, 24, 72), Axis(80, 0, 80, 80), Axis(80, 0, 80, 80)]
    blanks, window = find_blanks(coarse, "none"), Window(*WINDOW)
    found = measure(coarse, fine.voxels, axes, window, blanks, (0.8, 0.4, 0.4), True)
    before, after = np.median(found.edge_widths, axis=1)
    assert found.edge_widths.shape[1] >= 20 and after < 0.9 * before
    assert 0.15 < after < 0.9


def test_everything_that_is_done_with_slices_is_done_with_blocks(phantom, model, tmp_path):
    scan = phantom.coarse.write(tmp_path / "thick.nrrd")
    roi = ((10, 42), (8, 40), (4, 16))
    options = Options(
        output_spacing="cubic", roi=roi, window=WINDOW, blank="none", device="cpu",
        ensemble=2, uncertainty=2, disagreement_above=500.0, sharpness=80,
    )  # fmt: skip
    report = apply_to_file(scan, tmp_path / "thin", model, options, as_dicom=True, patient_name="A", patient_id="1")
    run = report["super_resolution"]
    assert run["planes"] == "blocks" and run["scale"] == [1, 1, 3] and run["output_size"] == [32, 32, 36]
    assert run["output_spacing_mm"] == pytest.approx([0.3, 0.3, 0.3]) and run["back_projection"]
    assert run["ensemble"] == 2 and run["disagreement"]["passes"] == 2
    series = Volume.read(tmp_path / "thin")
    assert series.voxels.shape == (36, 32, 32) and series.spacing == pytest.approx((0.3, 0.3, 0.3))
    spread = Volume.read(tmp_path / "thin model disagreement.nrrd")
    assert spread.voxels.shape == (36, 32, 32) and spread.voxels.max() > 0
    figures = {figure["key"]: figure for figure in run["quality"]["figures"]}
    assert figures["consistency"]["value"] is not None and figures["noise"]["value"] > 0
    assert json.dumps(report)


def test_slices_that_are_thick_along_another_axis_are_filled_smoothed_and_compared_as_they_were_acquired():
    """A field of view of a noisy cylinder: what is blank is filled, and what is smoothed compared, within slices."""
    model = stub_model(build_network("any_size", nf=8, nb=1, decoder_features=4), window=WINDOW)  # which interpolates
    rng, (j, i) = np.random.default_rng(2), np.mgrid[:40, :44]
    voxels = gaussian_blur(rng.standard_normal((14, 40, 44), dtype=np.float32), (0.6, 1.2, 1.2), ALL_AXES)
    voxels = 36000 + 9000 / voxels.std() * voxels
    voxels[:, np.hypot(j - 19.5, i - 21.5) > 19] = -1000.0
    scan = Volume(voxels, make_grid((44, 40, 14), (0.3, 0.3, 0.9)))
    options = Options(window=WINDOW, output_spacing="cubic", smooth=0.8, back_projection="on", device="cpu")
    wanted = super_resolve(scan, model, options)
    assert wanted.report["blank"]["kind"] == "cylinder" and wanted.report["back_projection"]
    for across in (1, 2):
        turned = Volume(np.ascontiguousarray(voxels.swapaxes(0, across)), scan.grid.as_acquired(across))
        result = super_resolve(turned, model, options).voxels.swapaxes(0, across)
        assert np.abs(result - wanted.voxels).max() < 2, across


def test_slices_that_are_thick_along_another_axis_become_what_they_would_across_k(phantom):
    """Sagittal and coronal scans may be stored in the order of axial ones: all is turned, and so is the result."""
    torch.manual_seed(0)
    network = build_network("any_size", nf=8, nb=1, decoder_features=4)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    told = {"data": {"degradation": {"kind": "block", "blur": [0.1, 0.43, 1.0], "noise": [0.0, 0.05]}}}
    model = stub_model(network, window=WINDOW, training=told)
    plain = {"window": WINDOW, "precision": "fp32", "device": "cpu", "uncertainty": 2}
    roi = ((4, 20), (10, 60), (8, 70))
    wanted = super_resolve(phantom.coarse, model, Options(output_spacing=0.3, roi=roi[::-1], **plain))
    assert np.std(wanted.voxels) > 1000 and wanted.report["conditions"]["source"] == "estimated"
    for across in (1, 2):

        def turned(values: list, across: int = across) -> list:
            """Of (i, j, k)."""
            return as_acquired(values[::-1], across)[::-1]

        voxels = np.ascontiguousarray(phantom.coarse.voxels.swapaxes(0, across))
        scan = Volume(voxels, phantom.coarse.grid.as_acquired(across))
        assert scan.spacing[2 - across] == pytest.approx(0.9)
        with pytest.raises(OptionError, match="offers factors from"):
            super_resolve(scan, model, Options(scale=(1, 1, 5), **plain))  # more than 4 is offered across slices alone
        result = super_resolve(scan, model, Options(output_spacing="cubic", roi=tuple(turned(roi[::-1])), **plain))
        assert position_error_mm(result.grid.as_acquired(across), wanted.grid) <= 1e-6
        assert np.abs(result.voxels.swapaxes(0, across).astype(float) - wanted.voxels).max() <= 1
        spread = result.disagreement.voxels.swapaxes(0, across)
        assert np.abs(spread - wanted.disagreement.voxels).max() < 1 < np.median(wanted.disagreement.voxels)
        found, other = result.report, wanted.report
        assert found["scale"] == turned(other["scale"]) and found["scale"][2 - across] == 3
        assert found["conditions"]["told_blur"] == turned(other["conditions"]["told_blur"])
        assert found["conditions"]["reason"] == other["conditions"]["reason"]
        for one, two in zip(found["quality"]["figures"], other["quality"]["figures"], strict=True):
            assert one["value"] == pytest.approx(two["value"], rel=1e-3)
        assert any("thick along" in note for note in found["notes"])


def test_a_part_is_the_crop_of_the_whole_and_agreement_counts_along_all_axes(phantom, model):
    options = {"output_spacing": 0.3, "window": WINDOW, "blank": "none", "device": "cpu"}
    whole = super_resolve(phantom.coarse, model, Options(**options))
    part = super_resolve(phantom.coarse, model, Options(roi=((5, 60), (12, 70), (3, 20)), **options))
    assert np.abs(part.voxels.astype(float) - whole.voxels[9:60, 12:70, 5:60]).max() <= 1
    axes = [Axis(24, 0, 24, 72), Axis(80, 0, 80, 80), Axis(80, 0, 80, 80)]
    blanks, window = find_blanks(phantom.coarse, "none"), Window(*WINDOW)
    true, shifted = (
        measure(phantom.coarse, voxels, axes, window, blanks, (0.3, 0.0, 0.0), True).residual
        for voxels in (phantom.fine.voxels, np.roll(phantom.fine.voxels, 2, 0))
    )
    assert shifted > 3 * true, "a result that is displaced along k contradicts the scan"

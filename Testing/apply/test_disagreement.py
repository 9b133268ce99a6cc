"""Model disagreement: zero where answers cannot differ, known where they must, the same for any tiles."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.phantom import WINDOW, cylinder, jaw_scans
from CBCTSuperResLib.apply.file import DISAGREEMENT, MASK, apply_to_file, path_beside
from CBCTSuperResLib.apply.maps import SHARE_OF_NOISE, added_noise
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.cli import make_parser
from CBCTSuperResLib.cli.apply import options_from_arguments, result_text
from CBCTSuperResLib.core.errors import OptionError, OutputError
from CBCTSuperResLib.io.exchange import read_exchange
from helpers import make_grid
from stub_networks import Constant, CubicTwice, LinearBlocks, Lopsided, Stub, stub_model
from torch.nn import functional as F

OPTIONS = Options(window=(0.0, 1000.0), device="cpu", dtype="float32", blank="none", uncertainty=4)


class Leaning(Stub):
    """Bicubic enlargement by two, brighter by 0.1 at the top of the image as it is shown."""

    def describe(self):
        return replace(CubicTwice().describe(), context="unknown")

    def decode(self, features, positions=None):
        fine = F.interpolate(features, scale_factor=2.0, mode="bicubic")
        fine[..., : fine.shape[-2] // 2, :] += 0.1
        return {"sr": fine}


def scan(shape=(4, 40, 36), noise=20.0, seed=0, dtype="float32") -> Volume:
    random = np.random.default_rng(seed)
    voxels = 500 + random.normal(0, noise, shape)
    return Volume(voxels.astype(dtype), make_grid(shape[::-1], (0.25, 0.25, 0.25)))


def spread(volume, model, options=OPTIONS):
    return super_resolve(volume, model, options).disagreement.voxels


def test_without_being_asked_for_there_is_none():
    assert super_resolve(scan(), stub_model(CubicTwice()), replace(OPTIONS, uncertainty=0)).disagreement is None


def test_a_network_that_always_says_the_same_does_not_disagree():
    assert not spread(scan(), stub_model(Constant())).any()


def test_what_hangs_on_the_position_disagrees_by_as_much():
    """Of four flips two show the top at the bottom: 0.1 twice and 0 twice have a deviation of 0.1 / sqrt(3)."""
    found = spread(scan(noise=0.01), stub_model(Leaning()))
    assert found[:, 4:-4].mean() == pytest.approx(1000 * 0.1 / np.sqrt(3), rel=0.02)


def test_noise_goes_through_as_the_network_lets_it():
    """Linear enlargement in blocks makes noise smaller by a known factor; a quarter of the scan's was added."""
    volume = scan((40, 48, 44), noise=20)
    card = stub_model(LinearBlocks()).card
    plan = make_plan(volume.grid, volume.voxels.dtype, card, OPTIONS).with_scan(volume)
    noise = added_noise(volume.voxels, plan)
    assert noise == pytest.approx(SHARE_OF_NOISE * 20 / 1000, rel=0.1)
    many = spread(volume, stub_model(LinearBlocks()), replace(OPTIONS, uncertainty=16))
    rms = float(np.sqrt(np.mean(np.square(many))))
    assert 0.4 * 1000 * noise < rms < 0.7 * 1000 * noise


@pytest.mark.parametrize("planes", ["axial", "isotropic"])
def test_tiles_change_nothing_and_it_is_always_the_same(planes):
    volume, model = scan((9, 46, 50), noise=60), stub_model(Lopsided())
    options = replace(OPTIONS, planes=planes)
    whole = spread(volume, model, options)
    assert whole.shape == super_resolve(volume, model, options).voxels.shape and np.median(whole) > 0
    assert np.array_equal(spread(volume, model, options), whole)
    assert np.abs(spread(volume, model, replace(options, tile=16)) - whole).max() <= 1e-2


def test_a_roi_shows_the_same_but_for_its_border():
    volume, model = scan((5, 46, 50), noise=60), stub_model(Lopsided())
    whole = spread(volume, model)
    part = spread(volume, model, replace(OPTIONS, roi=((7, 40), (10, 46), (1, 4))))
    assert np.corrcoef(part[:, 6:-6, 6:-6].ravel(), whole[1:4, 26:-6, 20:74].ravel())[0, 1] > 0.97


def test_the_result_is_what_it_is_without_it():
    volume, model = scan((4, 30, 34), noise=60), stub_model(Lopsided())
    for ensemble in (1, 2):
        options = replace(OPTIONS, ensemble=ensemble)
        alone = super_resolve(volume, model, replace(options, uncertainty=0)).voxels
        assert np.array_equal(super_resolve(volume, model, options).voxels, alone)


def test_blank_voxels_do_not_disagree():
    volume = scan((4, 60, 60), noise=40, dtype="uint16")
    mask = np.broadcast_to(cylinder(volume.voxels.shape), volume.voxels.shape)
    voxels = np.where(mask, volume.voxels, 0).astype(np.uint16)
    found = spread(Volume(voxels, volume.grid), stub_model(Lopsided()), replace(OPTIONS, blank="auto", dtype=None))
    assert not found[:, :4, :4].any() and found[:, 40:80, 40:80].all()


def test_voxels_that_the_window_cuts_off_get_no_noise():
    voxels = scan(noise=20).voxels.copy()
    voxels[:, :20] = -500
    found = spread(Volume(voxels, make_grid((36, 40, 4))), stub_model(CubicTwice()))
    assert not found[:, :30].any() and found[:, 48:-4].mean() > 1


def test_it_is_larger_where_the_error_is_larger():
    from CBCTSuperResLib.models.model import Model

    fine, coarse = jaw_scans((4, 160, 160), 0.12, seed=4)
    result = super_resolve(coarse, Model.load("light"), Options(device="cpu", uncertainty=4))
    seen = np.broadcast_to(cylinder(fine.voxels.shape, 0.9), fine.voxels.shape)
    seen = seen & (fine.voxels > WINDOW[0] + 400) & (fine.voxels < WINDOW[1] - 400)
    error = np.abs(result.voxels.astype(float) - fine.voxels)[seen]
    disagreement = result.disagreement.voxels[seen]
    ranks = [np.argsort(np.argsort(values)) for values in (error, disagreement)]
    assert np.corrcoef(*ranks)[0, 1] > 0.4
    worst = disagreement > np.percentile(disagreement, 95)
    assert error[worst].mean() > 2.5 * error.mean()


def test_report_and_quality_card_tell_it():
    result = super_resolve(scan(noise=60), stub_model(Lopsided()), replace(OPTIONS, disagreement_above=20.0))
    facts, voxels = result.report["disagreement"], result.disagreement.voxels
    assert facts["passes"] == 4 and facts["above"] == 20.0
    assert facts["median"] == pytest.approx(np.median(voxels), rel=0.05)
    assert facts["percentile_95"] == pytest.approx(np.percentile(voxels, 95), rel=0.05)
    assert facts["share_above"] == pytest.approx(np.mean(voxels > 20), abs=0.02)
    figure = result.report["quality"]["figures"][-1]
    assert figure["key"] == "disagreement" and figure["label"] == "Model disagreement"
    words = json.dumps(result.report["quality"]).lower()
    assert "may still be wrong" in words and "safe" not in words


def test_progress_and_estimate_count_its_passes():
    volume, model = scan(), stub_model(CubicTwice())
    seen = []
    super_resolve(volume, model, replace(OPTIONS, ensemble=2), lambda fraction, text: seen.append((fraction, text)))
    assert ("Network: 24 of 24" in [text for _, text in seen]) and [f for f, _ in seen] == sorted(f for f, _ in seen)
    one, five = (
        make_plan(volume.grid, np.dtype("uint16"), model.card, Options(uncertainty=passes)) for passes in (0, 4)
    )
    assert five.seconds == pytest.approx(5 * one.seconds)
    assert five.map_bytes == 2 * five.output_bytes and one.map_bytes == 0
    assert five.memory_bytes >= one.memory_bytes + five.map_bytes


def test_a_pass_is_run_in_its_position_only():
    engine_runs = []

    class Counting(CubicTwice):
        def encode(self, x):
            engine_runs.append(tuple(x.shape))
            return x

    super_resolve(scan((2, 20, 24)), stub_model(Counting()), replace(OPTIONS, uncertainty=8))
    assert engine_runs.count((1, 1, 20, 24)) == 2 * (1 + 4) and engine_runs.count((1, 1, 24, 20)) == 2 * 4


@pytest.mark.parametrize(
    "options",
    [{"uncertainty": 1}, {"uncertainty": -2}, {"uncertainty": 33}, {"disagreement_above": 5.0},
     {"uncertainty": 4, "disagreement_above": 0.0}, {"uncertainty": 4, "disagreement_above": float("nan")}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(OptionError):
        Options(**options)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b.nrrd", "b model disagreement.nrrd"), ("b.nii.gz", "b model disagreement.nii.gz"),
     ("Zähne 1.5.mha", "Zähne 1.5 model disagreement.mha"), ("r.npy", "r model disagreement.npy")],
)  # fmt: skip
def test_the_second_file_is_named_after_the_first(path, expected):
    assert path_beside(path, DISAGREEMENT).name == expected


def test_files_are_written_beside_the_result(tmp_path):
    scan(noise=60, dtype="uint16").write(tmp_path / "scan.nrrd")
    target = tmp_path / "Kiefer é.nrrd"
    options = Options(window=(0, 1000), device="cpu", uncertainty=2, disagreement_above=30.0)
    report = apply_to_file(tmp_path / "scan.nrrd", target, stub_model(Lopsided()), options)
    disagreement = Volume.read(path_beside(target, DISAGREEMENT))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(path_beside(target, MASK)))
    result = Volume.read(target)
    assert disagreement.voxels.dtype == np.float32 and disagreement.voxels.shape == result.voxels.shape
    assert np.allclose(disagreement.grid.index_to_point, result.grid.index_to_point, atol=1e-6)
    assert np.array_equal(mask, disagreement.voxels > 30) and 0 < mask.mean() < 1
    assert report["beside"] == {
        DISAGREEMENT: str(path_beside(target, DISAGREEMENT)),
        MASK: str(path_beside(target, MASK)),
    }
    printed = result_text(report, str(target))
    assert f"Model disagreement in {path_beside(target, DISAGREEMENT)}" in printed
    assert sorted(p.name for p in tmp_path.iterdir() if "scan" not in p.name) == sorted(
        [target.name, f"{target.name}.json", path_beside(target, DISAGREEMENT).name, path_beside(target, MASK).name]
    )


def test_if_the_result_cannot_be_written_nothing_stays(tmp_path, monkeypatch):
    scan(noise=60).write(tmp_path / "scan.nrrd")
    from CBCTSuperResLib.apply import file

    write = file.write_into

    def fail(path, volume, compress, name):
        if "model" in name.name:
            return write(path, volume, compress, name)
        raise OutputError("The disk is full.")

    monkeypatch.setattr(file, "write_into", fail)
    options = Options(window=(0, 1000), device="cpu", uncertainty=2, disagreement_above=1.0)
    with pytest.raises(OutputError):
        apply_to_file(tmp_path / "scan.nrrd", tmp_path / "result.nrrd", stub_model(CubicTwice()), options)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nrrd"]


def test_processes_exchange_it_in_a_file_of_its_own(tmp_path):
    volume = scan(noise=60)
    volume.write(tmp_path / "scan.nrrd")
    options = Options(window=(0, 1000), device="cpu", uncertainty=2, disagreement_above=30.0)
    apply_to_file(tmp_path / "scan.nrrd", tmp_path / "result.npy", stub_model(CubicTwice()), options)
    found = read_exchange(tmp_path / "result model disagreement.npy").voxels
    assert np.array_equal(found, spread(volume, stub_model(CubicTwice()), options))


def test_the_command_line_takes_it():
    def options(*words):
        return options_from_arguments(make_parser().parse_args(["apply", "a.nrrd", "b.nrrd", *words]))

    assert options().uncertainty == 0 and options("--uncertainty").uncertainty == 4
    found = options("--uncertainty", "8", "--disagreement-above", "250")
    assert (found.uncertainty, found.disagreement_above) == (8, 250.0)

"""`cbct-superres test`: results in 16 bits, measures against cubic interpolation, and the model it is about."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.acquisition.scanner import Acquisition
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.core.errors import Cancelled, InputError, ModelError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.importers.spsr import export_checkpoint
from CBCTSuperResLib.io.read import probe
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.io.volume_files import read_header, read_voxels
from CBCTSuperResLib.scan.window import Window
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.test import report_text, test, write_grey_values
from stub_networks import CubicTwice, register, stub_model, tiny_model

test.__test__ = False  # it is the function under test

WINDOW = (26000, 46000)
COLUMNS = ["psnr", "psnr_cubic", "ssim", "ssim_cubic", "gradient_error", "gradient_error_cubic", "psnr_8bit"]


def fine_slices(count: int = 3, shape: tuple[int, int] = (32, 36)) -> np.ndarray:
    """Smooth slices (k, j, i) in [0, 1]."""
    rng = np.random.default_rng(5)
    return np.stack([np.clip(cv2.GaussianBlur(rng.random(shape), (0, 0), 1.5) * 3 - 1, 0, 1) for _ in range(count)])


def grey(unit: np.ndarray) -> np.ndarray:
    return np.rint(unit * (WINDOW[1] - WINDOW[0]) + WINDOW[0]).astype(np.uint16)


@pytest.fixture()
def slices(tmp_path) -> dict[str, str]:
    """Folders of 16-bit TIFF slices, one below a folder of its own."""
    fine = fine_slices()
    for role, images in (("HR", fine), ("LR", Acquisition(noise=0.01).degrade(fine))):
        for number, image in enumerate(images):
            path = tmp_path / "Röntgen" / role / ("patient 1" if number else ".") / f"slice{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".tif", grey(image))[1].tobytes())
    return {f"dataroot_{role}": str(tmp_path / "Röntgen" / role) for role in ("HR", "LR")}


@pytest.fixture()
def volumes(tmp_path) -> dict[str, str]:
    """A pair of volumes, int16 with negative grey values."""
    fine = fine_slices(4)
    sides = {"HR": (fine, (0.1, 0.1, 0.2)), "LR": (Acquisition(noise=0.01).degrade(fine), (0.2, 0.2, 0.2))}
    for role, (unit, spacing) in sides.items():
        voxels = np.rint(unit * 3000 - 1000).astype(np.int16)
        Volume(voxels, Grid(voxels.shape[::-1], spacing)).write(tmp_path / f"{role} scan.nrrd")
    return {f"dataroot_{role}": str(tmp_path / f"{role} scan.nrrd") for role in sides}


@pytest.fixture()
def model(tmp_path) -> Path:
    return tiny_model(window=WINDOW).save(tmp_path / "model.safetensors")


def options(root: Path, model: Path | str | None, *sets: dict, **changes):
    values = {
        "name": "Prüfung",
        "scale": 2,
        "gpu_ids": [],
        "datasets": {f"test_{n + 1}": {"name": f"set {n + 1}", "mode": "LRHR", **one} for n, one in enumerate(sets)},
        "path": {"root": str(root), "pretrain_model_G": model and str(model)},
        "network_G": {"nf": 4, "nb": 4, "gc": 4},
        **changes,
    }
    return read_options(values, is_train=False)


def read_tiff(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def with_window(slices: dict) -> dict:
    return {**slices, "normalization_range": list(WINDOW)}


def test_slices_give_16_bit_results_measures_and_pictures(tmp_path, slices, model):
    report = test(options(tmp_path, model, with_window(slices)))
    folder = tmp_path / "results" / "Prüfung" / "set 1"
    found = report["datasets"]["set 1"]
    assert (found["images"], found["measured"], found["folder"]) == (3, 3, str(folder))
    results = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tif"))
    assert results == ["patient 1/slice1.tif", "patient 1/slice2.tif", "slice0.tif"]
    image = read_tiff(folder / "slice0.tif")
    assert image.dtype == np.uint16 and image.shape == (32, 36)
    assert image.min() >= WINDOW[0] and image.max() <= WINDOW[1]
    assert list(found["means"]) == COLUMNS
    assert [row["metric"] for row in found["results"]] == ["PSNR (dB)", "SSIM", "gradient error"]
    rows = (folder / "measures.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == ",".join(["image", *COLUMNS]) and len(rows) == 5 and rows[-1].startswith("mean,")
    assert len(list((folder / "comparisons").glob("*.png"))) == 3
    assert json.loads((folder.parent / "results.json").read_text(encoding="utf-8")) == report


def test_a_network_that_is_cubic_interpolation_draws_with_it(tmp_path, slices, monkeypatch):
    register(monkeypatch)
    path = stub_model(CubicTwice(), window=WINDOW).save(tmp_path / "cubic.safetensors")
    means = test(options(tmp_path, path, with_window(slices)))["datasets"]["set 1"]["means"]
    assert means["psnr"] == pytest.approx(means["psnr_cubic"], abs=1e-3) and 15 < means["psnr"] < 60
    assert means["psnr_8bit"] == pytest.approx(means["psnr"], abs=0.2)


def test_images_of_two_folders_that_are_called_alike_are_all_kept(tmp_path, slices, model):
    twice = {role: [root, root] for role, root in slices.items()}
    found = test(options(tmp_path, model, {**twice, "normalization_range": list(WINDOW)}))["datasets"]["set 1"]
    assert found["measured"] == 6
    assert len(list(Path(found["folder"]).rglob("*.tif"))) == 6


def test_lr_alone_is_enlarged_and_not_measured(tmp_path, slices, model):
    alone = {"dataroot_LR": slices["dataroot_LR"], "normalization_range": list(WINDOW)}
    report = test(options(tmp_path, model, alone))
    found = report["datasets"]["set 1"]
    assert (found["images"], found["measured"], found["results"]) == (3, 0, [])
    assert not list(Path(found["folder"]).rglob("*.csv")) and len(list(Path(found["folder"]).rglob("*.tif"))) == 3
    assert "3 images, 0 of them measured" in report_text(report)


def test_simulated_lr_is_measured_too(tmp_path, slices, model):
    simulated = {"mode": "HR", "dataroot_HR": slices["dataroot_HR"], "normalization_range": list(WINDOW)}
    assert test(options(tmp_path, model, simulated))["datasets"]["set 1"]["measured"] == 3


def test_volumes_take_the_way_of_apply(tmp_path, volumes, model):
    window = [-1000, 2000]
    report = test(options(tmp_path, model, {**volumes, "normalization_range": window}))
    found = report["datasets"]["set 1"]
    assert (found["images"], found["measured"]) == (4, 4)
    (written,) = Path(found["folder"]).glob("*.nrrd")
    expected = tmp_path / "expected.nrrd"
    apply_to_file(volumes["dataroot_LR"], expected, model, Options(window=tuple(window), device="cpu"))
    ours, theirs = (read_voxels(read_header(path)) for path in (written, expected))
    assert ours.dtype == np.int16 and np.array_equal(ours, theirs)
    assert probe(written).spacing == pytest.approx((0.1, 0.1, 0.2))


def test_a_part_of_a_volume_is_that_part(tmp_path, volumes, model):
    part = {**volumes, "slices": [1, 3], "normalization_range": [-1000, 2000]}
    found = test(options(tmp_path, model, part))["datasets"]["set 1"]
    assert found["images"] == found["measured"] == 2
    (written,) = Path(found["folder"]).glob("*.nrrd")
    assert probe(written).size == (36, 32, 2)
    both = {**volumes, "normalization_range": [-1000, 2000]}
    whole = test(options(tmp_path / "whole", model, both))["datasets"]["set 1"]
    some, every = (Path(one["folder"], "measures.csv").read_text(encoding="utf-8") for one in (found, whole))
    assert some.splitlines()[1:-1] == every.splitlines()[2:4]


def test_a_volume_without_truth_is_enlarged_and_not_measured(tmp_path, volumes, model):
    alone = {"dataroot_LR": volumes["dataroot_LR"], "normalization_range": [-1000, 2000]}
    found = test(options(tmp_path, model, alone))["datasets"]["set 1"]
    assert found["measured"] == 0 and len(list(Path(found["folder"]).glob("*.nrrd"))) == 1


def test_volumes_cut_another_way_are_slices(tmp_path, volumes, model):
    sagittal = {"mode": "HR", "dataroot_HR": volumes["dataroot_HR"], "axis": "sagittal"}
    found = test(options(tmp_path, model, {**sagittal, "normalization_range": [-1000, 2000]}))["datasets"]["set 1"]
    assert found["images"] == found["measured"] == 36
    assert len(list(Path(found["folder"]).glob("*.tif"))) == 36


def test_several_sets_make_one_progress(tmp_path, slices, volumes, model):
    told = []
    sets = with_window(slices), {**volumes, "normalization_range": [-1000, 2000]}
    report = test(options(tmp_path, model, *sets), progress=lambda fraction, text: told.append(fraction))
    assert list(report["datasets"]) == ["set 1", "set 2"]
    assert told == sorted(told) and told[-1] == pytest.approx(1)


def test_without_a_model_the_best_of_the_run_of_that_name_is_tested_and_named(tmp_path, slices, model):
    run = tmp_path / "experiments" / "Prüfung"
    (run / "models").mkdir(parents=True)
    (run / "options.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"is null.*no model"):
        test(options(tmp_path, None, with_window(slices)))
    best = run / "models" / "best_G.safetensors"
    best.write_bytes(model.read_bytes())
    report = test(options(tmp_path, None, with_window(slices)))
    assert report["model"]["file"] == str(best) and str(best) in report["notes"][0]
    for named in (run, tmp_path):  # by its folder, or by that of all runs
        report = test(options(tmp_path, named, with_window(slices)))
        assert report["model"]["file"] == str(best) and f"is {named}: {best} is tested" in report["notes"][0]


def test_no_model_and_no_run_is_an_error_that_says_what_to_do(tmp_path, slices):
    with pytest.raises(ModelError, match=r"pretrain_model_G is null.*Name a model"):
        test(options(tmp_path, None, with_window(slices)))


def test_a_checkpoint_of_the_published_code_is_tested_like_the_model(tmp_path, slices, model):
    checkpoint = export_checkpoint(tiny_model(), tmp_path / "100_G.pth")
    first = test(options(tmp_path, checkpoint, with_window(slices)))["datasets"]["set 1"]["means"]
    second = test(options(tmp_path, model, with_window(slices)))["datasets"]["set 1"]["means"]
    assert first == pytest.approx(second, abs=1e-4)


def test_a_model_of_another_scale_is_refused_and_another_size_is_told(tmp_path, slices, model):
    with pytest.raises(ModelError, match="its scale is 2, not 4"):
        test(options(tmp_path, model, with_window(slices), scale=4))
    report = test(options(tmp_path, model, with_window(slices), network_G={"nf": 64, "nb": 4, "gc": 4}))
    assert report["notes"] == ["The model has nf 4, where network_G says 64."]


def test_pairs_that_do_not_fit_are_refused_by_name(tmp_path, slices, model):
    (tmp_path / "Röntgen" / "LR" / "slice0.tif").unlink()
    with pytest.raises(InputError, match="slice0"):
        test(options(tmp_path, model, with_window(slices)))


def test_a_test_can_be_cancelled(tmp_path, slices, model):
    with pytest.raises(Cancelled):
        test(options(tmp_path, model, with_window(slices)), cancelled=lambda: True)


@pytest.mark.parametrize(
    ("window", "dtype"),
    [((26000, 46000), np.uint16), ((0, 65535), np.uint16), ((-1000, 2000), np.float32), ((0, 1), np.float32)],
)
def test_results_keep_the_grey_values_of_the_window(tmp_path, window, dtype):
    unit = np.array([[0, 0.5], [1, 1.5]], np.float32)
    image = read_tiff(write_grey_values(unit, Window(*window), tmp_path / "é" / "a.tif"))
    middle = (window[0] + window[1]) / 2
    assert image.dtype == dtype
    assert image.ravel() == pytest.approx([window[0], middle, window[1], window[1]], abs=0.5)


def test_colour_results_keep_the_order_of_their_channels(tmp_path):
    unit = np.stack([np.full((3, 4), value, np.float32) for value in (0.0, 0.5, 1.0)])
    image = read_tiff(write_grey_values(unit, Window(0, 1000), tmp_path / "a.tif"))
    assert image.shape == (3, 4, 3) and image[0, 0].tolist() == [0, 500, 1000]


def test_the_report_in_words_names_model_and_measures(tmp_path, slices, model):
    text = report_text(test(options(tmp_path, model, with_window(slices))))
    for part in ("Model stub", "set 1: 3 images, 3 of them measured", "PSNR (dB)", "cubic", "8 bits"):
        assert part in text

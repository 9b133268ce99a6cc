"""Validation: measures against cubic interpolation, tables and pictures, and that training does not notice it."""

from __future__ import annotations

import csv
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from CBCTSuperResLib.acquisition.scanner import Acquisition
from CBCTSuperResLib.core.errors import Cancelled, InputError
from CBCTSuperResLib.core.interpolate import enlarge_slice
from CBCTSuperResLib.io.formats import file_name
from CBCTSuperResLib.io.pictures import comparison, write_picture
from CBCTSuperResLib.measure.fidelity import (
    gradient_error,
    gradient_magnitude,
    psnr,
    psnr_8bit,
    ssim,
)
from CBCTSuperResLib.networks.blocks import gradient_map
from CBCTSuperResLib.train import validation as enlarge
from CBCTSuperResLib.train import validation as measures
from CBCTSuperResLib.train.data.source import ImagePair
from CBCTSuperResLib.train.validation import Enlarger, Validator, write_rows
from fixtures_spsr import unit
from stub_networks import Constant, CubicTwice, tiny_network

NAMES = ["psnr", "psnr_cubic", "ssim", "ssim_cubic", "gradient_error", "gradient_error_cubic"]


class Learnable(CubicTwice):
    """Cubic enlargement with a weight, so that it has a device and parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def decode(self, features, positions=None):
        return {name: value * self.weight for name, value in super().decode(features).items()}


def pair(name: str, seed: int = 0, shape: tuple[int, int] = (40, 36), truth: bool = True) -> ImagePair:
    rng = np.random.default_rng(seed)
    hr = np.clip(cv2.GaussianBlur(rng.random(shape, dtype=np.float32), (0, 0), 1.5) * 3 - 1, 0, 1)
    lr = Acquisition(noise=0.01).degrade(hr, seed)
    return ImagePair(name=name, LR=lr, HR=hr if truth else None, window=None)


@pytest.fixture()
def pairs() -> list[ImagePair]:
    return [pair("patient 1/slice é", 1), pair("b", 2), pair("c", 3)]


@pytest.fixture()
def options() -> SimpleNamespace:
    return SimpleNamespace(scale=2, logger=SimpleNamespace(val_images=2))


def test_fixture_f9_is_met_to_its_digits():
    a = unit((3, 20, 16), 18).astype(np.float32)
    noise = unit((3, 20, 16), 19).astype(np.float32) - np.float32(0.5)
    b = np.clip(a + np.float32(0.05) * noise, 0, 1)
    assert np.rint(a * 255).sum() == 121261
    assert psnr_8bit(b, a, border=2) == pytest.approx(36.85773047, abs=1e-8)
    assert psnr(b[..., 2:-2, 2:-2], a[..., 2:-2, 2:-2]) == pytest.approx(36.91332801, abs=1e-8)


def test_the_gradient_error_is_the_difference_of_the_networks_gradient_maps():
    a, b = (unit((9, 11), seed) for seed in (1, 2))
    maps = [gradient_map(torch.from_numpy(x)[None, None])[0, 0, 1:-1, 1:-1].numpy() for x in (a, b)]
    assert gradient_error(a, b) == pytest.approx(np.abs(maps[0] - maps[1]).mean(), abs=1e-5)
    assert gradient_error(a, a + 3) == pytest.approx(0, abs=1e-12)
    ramp = np.arange(5.0) * np.ones((4, 1))
    assert np.all(gradient_magnitude(ramp) == 2)


def test_measures_leave_out_a_border_of_the_scale_and_clip():
    truth = pair("a").HR
    image = truth.copy()
    image[:2], image[:, -2:] = 5, -5
    found = measures.measure(image, truth, border=2)
    assert found["psnr"] == float("inf") and found["ssim"] == 1 and found["gradient_error"] == 0
    assert measures.measure(image, truth, border=1)["psnr"] < 30


def test_measures_equal_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    one = pair("a")
    image = enlarge_slice(one.LR, one.HR.shape)
    found = measures.measure(image, one.HR, border=2)
    inner = [np.clip(np.asarray(a, np.float64), 0, 1)[2:-2, 2:-2] for a in (one.HR, image)]
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert found["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(*inner, data_range=1.0))
    assert found["ssim"] == pytest.approx(metrics.structural_similarity(*inner, **settings), abs=1e-9)


@pytest.mark.parametrize("shape", [(12, 12), (4, 30), (3, 3)])
def test_an_image_too_small_for_borders_is_measured_whole(shape):
    truth = unit(shape, 1)
    found = measures.measure(truth * 0.9, truth, measures.border_of(truth, scale=2))
    assert np.isfinite([*found.values()]).all()


def test_sizes_that_differ_are_an_error_in_words():
    with pytest.raises(InputError, match="8 x 6 pixels and the true one 8 x 7"):
        measures.measure(np.zeros((6, 8)), np.zeros((7, 8)), 1)


def test_a_network_that_is_cubic_interpolation_draws_with_it(options, pairs, tmp_path):
    found = Validator(options, pairs).run({"G": Learnable()}, 5, tmp_path)
    assert list(found) == [*NAMES, "images"] and found["images"] == 3
    for name in NAMES[::2]:
        assert found[name] == pytest.approx(found[f"{name}_cubic"], rel=1e-4)


def test_results_are_the_means_of_single_measures(options, pairs):
    network = tiny_network()
    found = Validator(options, pairs).run({"G": network}, 5)
    with torch.no_grad():
        images = [network(torch.from_numpy(p.LR)[None, None])["sr"][0, 0].numpy() for p in pairs]
    single = [measures.measure(image, p.HR, 2) for image, p in zip(images, pairs, strict=True)]
    assert found["psnr"] == pytest.approx(np.mean([one["psnr"] for one in single]), abs=1e-4)
    cubic = [ssim(*(np.clip(a, 0, 1)[2:-2, 2:-2] for a in (enlarge_slice(p.LR, p.HR.shape), p.HR))) for p in pairs]
    assert found["ssim_cubic"] == pytest.approx(np.mean(cubic), abs=1e-6)


def test_validation_is_the_same_every_time_and_training_does_not_notice_it(options, pairs, tmp_path):
    network = tiny_network().train().requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    validator = Validator(options, pairs)
    first, second = (validator.run({"G": network}, step, tmp_path / str(step)) for step in (1, 2))
    assert first == second == Validator(options, pairs).run({"G": network}, 3)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.is_grad_enabled()


def test_each_image_has_a_row_and_the_first_have_pictures(options, pairs, tmp_path):
    Validator(options, pairs).run({"G": tiny_network()}, 7, tmp_path)
    with (tmp_path / "7.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["patient 1/slice é", "b", "c", "mean"]
    assert float(rows[-1]["psnr"]) == pytest.approx(np.mean([float(row["psnr"]) for row in rows[:-1]]), abs=1e-5)
    pictures = sorted(tmp_path.glob("*/*.png"))
    assert [path.relative_to(tmp_path).as_posix() for path in pictures] == [
        "b/b_7.png",
        "patient 1_slice é/patient 1_slice é_7.png",
    ]
    picture = cv2.imdecode(np.fromfile(pictures[0], np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.dtype == np.uint8 and picture.ndim == 2 and picture.shape[1] > 5 * 36


def test_images_that_are_called_alike_all_count(options, tmp_path):
    found = Validator(options, [pair("a", 1), pair("a", 2), pair("a", 3)]).run({"G": Learnable()}, 1, tmp_path)
    assert found["images"] == 3
    assert [line.split(",")[0] for line in (tmp_path / "1.csv").read_text().splitlines()[1:-1]] == [
        "a",
        "a (2)",
        "a (3)",
    ]
    assert len(list(tmp_path.glob("*/*.png"))) == 2


def test_images_without_truth_are_not_measured_and_none_at_all_give_no_results(options, tmp_path):
    validator = Validator(options, [pair("a", truth=False)])
    assert validator.run({"G": tiny_network()}, 1, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_result_equal_to_the_truth_counts_as_100_db(tmp_path):
    path = write_rows({"a": {"psnr": float("inf")}, "b": {"psnr": 50.0}}, tmp_path / "rows.csv")
    assert path.read_text(encoding="utf-8").splitlines()[-1] == "mean,75.000000"


def test_cancelling_ends_a_validation(options, pairs):
    with pytest.raises(Cancelled):
        Validator(options, pairs).run({"G": tiny_network()}, 1, cancelled=lambda: True)


def test_an_image_that_does_not_fit_into_memory_is_cut_into_tiles(monkeypatch):
    image = pair("a", shape=(512, 300)).LR
    whole = Enlarger(tiny_network())(image)
    monkeypatch.setattr(enlarge, "free_memory", lambda device: 1000)
    monkeypatch.setattr("CBCTSuperResLib.apply.engine.TILE_MEMORY", {"cpu": 4e7, "cuda": 4e7})
    cut = Enlarger(tiny_network())
    assert np.abs(cut(image) - whole).max() < 2e-6
    assert list(cut._engines) == [enlarge.WIDE_HALO]


def test_the_branch_is_that_of_the_network():
    network, image = tiny_network(), pair("a").LR
    with torch.no_grad():
        expected = network(torch.from_numpy(image)[None, None])["branch"][0, 0].numpy()
    assert np.abs(Enlarger(network)(image, "branch") - expected).max() < 1e-6


def test_images_of_three_channels_go_through_whole():
    network = tiny_network(in_nc=3, out_nc=3)
    image = np.stack([pair("a", seed).LR for seed in range(3)])
    with torch.no_grad():
        expected = network(torch.from_numpy(image)[None])["sr"][0].numpy()
    assert np.array_equal(Enlarger(network)(image), expected)


def test_panels_stand_side_by_side_under_their_captions():
    light, dark = np.ones((200, 210)), np.zeros((200, 210))
    picture = comparison({"LR": dark, "HR": light})
    assert picture.dtype == np.uint8 and picture.shape[1] == 2 * 210 + 4
    assert (picture[-200:, :210] == 0).all() and (picture[-200:, -210:] == 255).all()
    assert (picture[:20, :210] < 128).any()


def test_the_same_picture_is_the_same_file(tmp_path):
    picture = comparison({"LR": unit((64, 64), 1)})
    files = [write_picture(picture, tmp_path / name).read_bytes() for name in ("a.png", "ü b.png")]
    assert zlib.crc32(files[0]) == zlib.crc32(files[1])


@pytest.mark.parametrize(
    ("name", "expected"), [("a/b", "a_b"), ("C:\\x?.png", "C_x_.png"), ("..", "image"), ("Zahn 1", "Zahn 1")]
)
def test_names_of_images_become_names_of_files_on_every_system(name, expected):
    assert file_name(name) == expected


def test_a_constant_network_loses_against_cubic_interpolation(options, pairs):
    class Flat(Constant):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

    found = Validator(options, pairs).run({"G": Flat()}, 1)
    assert found["psnr"] < found["psnr_cubic"] and found["gradient_error"] > found["gradient_error_cubic"]

"""The comparison with cubic interpolation, and the model file that training leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.card import read_card
from CBCTSuperResLib.evaluation import compare
from CBCTSuperResLib.interpolate import enlarge_slice
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.training import package
from CBCTSuperResLib.volume import Grid, Volume

TEXTS = {
    "name": "tiny",
    "title": "Tiny",
    "summary": "For a test.",
    "limits": "None.",
    "licence": "Apache-2.0",
    "voxel_size_mm": [0.1, 0.4],
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Arrays this small only wait for each other on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.clip(compare.jaw_phantom((4, 64, 64), 0.3, 7), 0, 1)


def test_cubic_against_itself_is_a_draw(truth):
    rows = compare.against_cubic("jaw", truth, lambda image: enlarge_slice(image, (64, 64)))
    assert [row["metric"] for row in rows] == ["PSNR (dB)", "SSIM"]
    assert all(row["model"] == row["cubic"] for row in rows)
    assert 15 < rows[0]["cubic"] < 40


def test_less_noise_in_the_scan_is_a_better_result(truth):
    quiet, loud = (
        compare.against_cubic("jaw", truth, lambda image: enlarge_slice(image, (64, 64)), noise=noise)[0]["cubic"]
        for noise in (0.0, 0.06)
    )
    assert quiet > loud + 1


def test_a_worse_method_loses(truth):
    rows = compare.against_cubic("jaw", truth, lambda image: np.full((64, 64), 0.5, np.float32))
    assert all(row["model"] < row["cubic"] for row in rows)


def test_the_robust_window_ignores_a_few_extremes_and_evens_the_size():
    voxels = np.linspace(100, 200, 5 * 21 * 31).reshape(5, 21, 31)
    voxels[0, 0, 0], voxels[-1, -2, -2] = -1e6, 1e6
    image = compare.in_robust_window(Volume(voxels, Grid((31, 21, 5))))
    assert image.shape == (5, 20, 30) and image.dtype == np.float32
    assert image.min() == 0 and image.max() == 1 and 0.4 < np.median(image) < 0.6


def test_a_packaged_model_carries_levels_halo_and_results(tmp_path, monkeypatch):
    phantom = ("small phantom", np.clip(compare.jaw_phantom((2, 32, 32), 0.5, 7), 0, 1))
    levels = package.phantom_levels([0])
    monkeypatch.setattr(package, "phantom_levels", lambda: levels)
    monkeypatch.setattr(package, "held_out_phantoms", lambda: iter([phantom]))
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=4, gc=2, nb=4)
    model = package.make_model(network, TEXTS, {"data": "none"}, {})
    card = read_card(model.save(tmp_path / "tiny.safetensors"))
    assert card.name == "tiny" and card.window == (26000, 46000) and card.voxel_size_mm == (0.1, 0.4)
    assert [row["data"] for row in card.results] == ["small phantom, blur 0.85 pixels, noise 2 %"] * 2
    assert card.spec.halo is None or card.spec.halo % 2 == 0
    assert card.levels.air == pytest.approx(-0.2, abs=0.03)
    assert card.levels.soft == pytest.approx(0.16, abs=0.03)
    assert card.levels.bone == pytest.approx(0.70, abs=0.03)

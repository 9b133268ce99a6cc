"""Denoising without enlarging: `--scale 1`, its name, its model, and what the quality card says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch.nn.functional as F
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply.factors import chosen_because, result_name
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.models.card import read_card
from CBCTSuperResLib.models.folder import default_model, find_model
from helpers import make_grid
from stub_networks import PointNet, interpolating_points, register, stub_model

SAME = Options(window=(0.0, 1000.0), blank="none", scale=1.0, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


class Smoothing(PointNet):
    """Averages so many voxels (k, j, i) around each, as a network that takes noise away; by default across slices."""

    width = (5, 1, 1)

    def encode(self, x):
        around = [n // 2 for n in self.width[::-1] for _ in range(2)]
        return F.avg_pool3d(F.pad(x, around, mode="replicate"), self.width, 1).expand(-1, 4, -1, -1, -1)


class Blunt(Smoothing):
    width = (1, 9, 9)


def noisy_steps(noise: float = 25.0) -> Volume:
    """Flat pieces with clear edges between them, soft by a scanner's blur, and noise."""
    k, j, i = np.indices((16, 60, 64))
    steps = 300.0 + 400 * (1 / (1 + np.exp(-((j - 30) + 0.2 * (i - 32)) / 2.5)))
    return Volume(
        (steps + np.random.default_rng(0).normal(0, noise, steps.shape)).astype(np.float32),
        make_grid((64, 60, 16), (0.3, 0.3, 0.3)),
    )


def smoothing(network: PointNet):
    interpolating = interpolating_points()
    network.load_state_dict(interpolating.state_dict())
    return stub_model(network, name="smoothing")


def figures_of(model) -> tuple[dict, dict]:
    report = super_resolve(noisy_steps(), model, SAME).report
    return {figure["key"]: figure for figure in report["quality"]["figures"]}, report


def test_the_voxels_stay_where_they_are_and_only_noise_goes():
    scan, model = noisy_steps(), smoothing(Smoothing())
    result = super_resolve(scan, model, SAME)
    assert result.grid.size == scan.grid.size and np.allclose(result.grid.index_to_point, scan.grid.index_to_point)
    figures, report = figures_of(model)
    assert report["scale"] == [1.0, 1.0, 1.0]
    assert figures["noise"]["value"] < 0.5 * figures["noise"]["before"]
    assert figures["consistency"]["label"] == "Taken away" and 0.7 < figures["consistency"]["value"] < 1.3
    assert "blurred" not in str(figures).lower() and "blurred" not in report["quality"]["assumptions"].lower()
    assert report["quality"]["warnings"] == [] and not any("finer" in text for text in report["warnings"])


def test_a_result_that_kept_the_noise_or_lost_the_edges_says_so():
    _, kept = figures_of(smoothing(PointNet()))
    assert kept["quality"]["warnings"] == ["The result has hardly less noise than the scan."]
    figures, blunt = figures_of(smoothing(Blunt()))
    assert "Edges are blunter than in the scan: more than noise was smoothed." in blunt["quality"]["warnings"]
    assert figures["edge_width"]["attention"]


def test_the_model_is_chosen_by_what_is_asked_and_one_for_another_factor_refuses():
    assert default_model(SAME).name == "any-size" and default_model(Options()).name != "any-size"
    card = default_model(SAME)
    assert "does not denoise without enlarging" in chosen_because(card, SAME, (0.3,) * 3)
    light = read_card(find_model("light"))
    with pytest.raises(OptionError, match="light was trained for x2 in slices: it does not denoise") as told:
        make_plan(make_grid((9, 9, 9)), np.dtype("int16"), light, SAME)
    assert "any-size" in str(told.value)
    with pytest.raises(OptionError, match="scale 1"):
        make_plan(make_grid((9, 9, 9), (0.3,) * 3), np.dtype("int16"), card, Options(output_spacing=0.3))


def test_results_are_called_denoised():
    card = default_model(SAME)
    assert result_name("Jaw", card, SAME) == "Jaw denoised"
    assert result_name("Jaw", card, replace(SAME, scale=(1.0, 1.0, 1.0))) == "Jaw denoised"
    assert result_name("Jaw", card, replace(SAME, scale=(1.0, 1.0, 2.0))) == "Jaw SR 1x1x2"

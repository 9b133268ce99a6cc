"""From a trained network to a model file: its tissue levels, its halo, its measured results, its card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..blanks import find_blanks
from ..calibrate import calibrate
from ..card import ModelCard
from ..evaluation.compare import Case, compare, held_out_phantoms, in_robust_window
from ..evaluation.phantom import WINDOW, jaw_scans
from ..model import Model
from ..tissue import TissueLevels, estimate_levels
from ..volume import Volume
from ..window import Window


def phantom_levels(seeds: Iterable[int] = range(5)) -> TissueLevels:
    """What `estimate_levels` finds on phantom scans, in units of their window; the median over the seeds."""
    window, found = Window(*WINDOW), []
    for seed in seeds:
        scan = jaw_scans((48, 192, 192), 0.15, seed, metal=seed % 2 == 1)[1]
        found.append(astuple(estimate_levels(scan.voxels, find_blanks(scan)).in_window(window)))
    return TissueLevels(*(round(float(level), 3) for level in np.median(found, axis=0)))


def measured(network: nn.Module, scans: dict[str, Path]) -> list[dict]:
    """Results against cubic interpolation on held-out phantoms and on real scans, given by name and file."""

    @torch.inference_mode()
    def enlarge(image: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(image)[None, None])["sr"][0, 0].numpy()

    results = []
    for case in held_out_phantoms():
        results += compare(case, {"model": enlarge})
    for name, path in scans.items():
        results += compare(Case(name, in_robust_window(Volume.read(path))), {"model": enlarge})
    return results


def make_model(network: nn.Module, texts: dict, training: dict, scans: dict[str, Path]) -> Model:
    """A model that is ready to be saved.

    Parameters
    ----------
    network : torch.nn.Module
    texts : dict
        "name", "title", "summary", "limits", "licence" and "voxel_size_mm" of the card.
    training : dict
        How the network was trained; stored as it is.
    scans : dict
        Names and files of real scans to measure on, none of which was trained on.
    """
    network = network.eval()
    card = ModelCard(
        spec=network.describe(),
        window=WINDOW,
        levels=phantom_levels(),
        smooth=0.0,
        training=training,
        results=measured(network, scans),
        **{**texts, "voxel_size_mm": tuple(texts["voxel_size_mm"])},
    )
    return calibrate(Model(network, card))

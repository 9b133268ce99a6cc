"""What is told of images before a training: sizes, patients, displaced pairs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from CBCTSuperResLib.acquisition.scanner import block_mean, gaussian_blur
from CBCTSuperResLib.train.data.inspect import check_data, displacement
from CBCTSuperResLib.train.data.pictures import Picture
from CBCTSuperResLib.train.options_file import read_options


def blobs(size: int = 96) -> np.ndarray:
    """Two tissues with round borders, in units of the window."""
    field = gaussian_blur(np.random.default_rng(0).standard_normal((size, size)).astype(np.float32), 2.5, (0, 1))
    return np.where(field > 0, 0.7, 0.3).astype(np.float32)


def pair(shift: int, noise: float = 0.02) -> tuple[Picture, Picture]:
    image = blobs()
    low = block_mean(image[shift : shift + 64, :64], (0, 1))
    low = low + noise * np.random.default_rng(1).standard_normal(low.shape).astype(np.float32)
    return Picture("low", low[None], None), Picture("high", image[None, :64, :64], None)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_the_displacement_of_a_pair_is_measured_to_a_fraction_of_a_pixel(shift):
    assert displacement(*pair(shift), 2) == pytest.approx(shift, abs=0.15)


def test_images_without_structure_tell_no_displacement():
    flat = Picture("flat", np.full((1, 64, 64), 0.5, np.float32), None)
    assert displacement(Picture("flat", flat.pixels[:, ::2, ::2], None), flat, 2) is None


@pytest.fixture
def folders(tmp_path):
    """Pairs of two patients, the second one's displaced by four pixels."""
    for name, shift in (("P01_a", 0), ("P01_b", 0), ("P02_a", 4)):
        for side, picture in zip(("LR", "HR"), pair(shift, 0.0), strict=True):
            (tmp_path / side).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / side / f"{name}.png"), (65535 * picture.pixels[0]).astype(np.uint16))
    return tmp_path


def options(folders, **train):
    values = {
        "name": "look",
        "gpu_ids": [],
        "datasets": {
            "train": {
                "mode": "LRHR",
                "dataroot_HR": str(folders / "HR"),
                "dataroot_LR": str(folders / "LR"),
                "HR_size": 32,
                "batch_size": 2,
                **train,
            }
        },
        "path": {"root": str(folders)},
        "train": {"feature_weight": 0},
    }
    return read_options(values)


def test_a_check_counts_sizes_and_patients_and_names_the_worst_pair(folders):
    told = check_data(options(folders, patient_pattern="(P[0-9]+)"))["train"]
    assert told["sizes"] == [{"size": [64, 64], "images": 3}]
    assert told["patients"] == {"P01": 2, "P02": 1}
    assert told["displacement"]["checked"] == 3 and told["displacement"]["worst_name"] == "P02_a"
    assert told["displacement"]["worst"] == pytest.approx(4, abs=0.2)


def test_without_a_pattern_folders_stand_for_patients(folders):
    assert check_data(options(folders))["train"]["patients"] == {"HR": 3}


def test_displaced_pairs_are_warned_of(folders):
    for name in ("P01_a", "P01_b"):
        for side in ("HR", "LR"):
            (folders / side / f"{name}.png").unlink()
    (sentence,) = [text for text in check_data(options(folders))["warnings"] if "displaced" in text]
    assert "P02_a" in sentence and "register and prepare" in sentence


def test_images_that_are_also_validated_on_are_warned_of(folders):
    values = options(folders).to_json()
    values["datasets"]["val"] = {
        key: values["datasets"]["train"][key] for key in ("mode", "dataroot_HR", "dataroot_LR")
    }
    assert any("P01_a.png and 2 more" in text for text in check_data(read_options(values))["warnings"])

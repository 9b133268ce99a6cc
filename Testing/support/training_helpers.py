"""What the tests of the panel of CBCTSuperResTraining share."""

from __future__ import annotations

import time


def choose_drawn_slices(panel, name="Lauf 1", **train) -> None:
    """Settings of a tiny training on computer-drawn slices; `train` changes their section of that name."""
    panel.choices.setSettings(
        {
            "scale": 2,
            "gpu_ids": [],
            "use_tb_logger": False,
            "datasets": {
                "train": {"mode": "HR", "procedural": 6, "HR_size": 16, "batch_size": 2, "n_workers": 0},
                "val": {"mode": "HR", "procedural": 2},
            },
            "path": {},
            "network_G": {"nf": 4, "nb": 4, "gc": 4},
            "network_D": {"nf": 4},
            "train": {"feature_weight": 0, "niter": 1000, **train},
            "logger": {"print_freq": 1},
        }
    )
    panel.parameters.runName = name


def tick_until(application, panel, condition, seconds: float = 240.0) -> None:
    """Let the application run, its timers included, until something is the case."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, panel.ui.trainingLabel.text
        application.qapp.processEvents()
        time.sleep(0.01)

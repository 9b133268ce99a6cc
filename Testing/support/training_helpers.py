"""What the tests of the panel of CBCTSuperResTraining share."""

from __future__ import annotations

import json
import time

from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.train.curves import CurvesTable
from scans import make_scan

VOLUMES, FILES = range(2)  # what is chosen for the table of scans
TRAINING, VALIDATION = range(2)


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


def add_volume(name: str, volume: Volume):
    import slicer
    from CBCTSuperResLib.scene.nodes import updateNode

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNode(node, volume)
    return node


def fine_scan(factor: int = 2, shape=(4, 24, 28)) -> Volume:
    """The partner of `make_scan`: the same place, more voxels in the slices."""
    coarse = make_scan(shape)
    voxels = coarse.voxels.repeat(factor, 1).repeat(factor, 2)
    return Volume(voxels, coarse.grid.resampled(voxels.shape[::-1]))


def add_rows(ui, fine, coarse=None, use: int = TRAINING) -> None:
    """Choose volumes and click on the button."""
    ui.sourceSelector.currentIndex = VOLUMES
    ui.useSelector.currentIndex = use
    ui.fineSelector.setCurrentNode(fine)
    ui.coarseSelector.setCurrentNode(coarse)
    ui.addButton.click()


def write_run(root, name, steps=20, updated=1.7e9):
    """The folder of a finished run, as a training leaves it."""
    import qt

    folder = root / "experiments" / name
    (folder / "val_images" / "a slice").mkdir(parents=True)
    status = {
        "state": "finished",
        "step": steps,
        "niter": steps,
        "updated": updated,
        "best": {"psnr": 33.0, "step": 10},
    }
    (folder / "status.json").write_text(json.dumps(status))
    table = CurvesTable(folder / "curves.csv")
    for step in range(1, steps + 1):
        table.put(step, {"l_g_pix": 1 / step, **({"l_d_real": 0.5} if step > 10 else {}), "lr": 1e-4})
        if step % 10 == 0:
            table.put(step, {"val_psnr": 32.0 + step / 100, "val_psnr_cubic": 32.15})
    picture = qt.QImage(900, 300, qt.QImage.Format_Grayscale8)
    picture.fill(100)
    picture.save(str(folder / "val_images" / "a slice" / f"a slice_{steps}.png"))
    return folder

"""The whole way once, on a scan that is made here: phantom, MRML scene, worker, result, picture, figures.

    python -m CBCTSuperResLib.demo --out demo-output

Needs slicer-core (a real MRML scene without the application) and matplotlib; neither Slicer nor a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import slicer

from .acquisition.phantom import WINDOW, cylinder, jaw_scans
from .cli.terminal import Progress
from .core.interpolate import enlarge_slice
from .core.memory import readable
from .evaluate.drawing import liveliest
from .io.volume import Volume
from .measure.fidelity import psnr, ssim
from .scan.window import Window
from .scene.logic import SuperResLogic
from .scene.nodes import updateNode, volumeFromNode

SHAPE = (64, 320, 320)
SPACING_MM = (0.125, 0.125, 0.25)  # as of scene/example_scan.py, which needs the translations of the application
SEED = 20261
ZOOM_MM = 12.0


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns 0 if the result is better than interpolation."""
    parser = argparse.ArgumentParser(description="Super-resolve a procedural CBCT scan and compare.")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    parser.add_argument("--model", help="name or file (default: the shipped light model)")
    parsed = parser.parse_args(arguments)
    parsed.out.mkdir(parents=True, exist_ok=True)

    print("Making a jaw section as a fine scan (the truth) and as a coarse one ...", flush=True)
    truth, scan = jaw_scans(SHAPE, SPACING_MM, SEED)
    scan.write(parsed.out / "scan.nrrd")

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    input_node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CBCT")
    updateNode(input_node, scan)
    start = time.perf_counter()
    with Progress(quiet=False) as progress:
        output_node = SuperResLogic().process(input_node, model=parsed.model, progress=progress)
    seconds = time.perf_counter() - start

    saved = save(output_node, parsed.out / "scan SR x2.nrrd")
    result = volumeFromNode(output_node)
    images = in_window_units(scan, result, truth)
    draw(images, scan, parsed.out / "before-after.png")
    print(figures(scan, result, images, output_node, seconds))
    print(f"Saved {saved} and {parsed.out / 'before-after.png'}")
    return 0 if images["psnr"]["super-resolved"] > images["psnr"]["cubic"] else 1


def save(node: slicer.vtkMRMLScalarVolumeNode, path: Path) -> Path:
    """Write a volume node as Slicer does."""
    storage = node.CreateDefaultStorageNode()
    storage.SetScene(node.GetScene())
    storage.SetFileName(str(path))
    storage.UseCompressionOff()
    if not storage.WriteData(node):
        raise SystemExit(f"{path} could not be written.")
    return path


def in_window_units(scan: Volume, result: Volume, truth: Volume) -> dict:
    """The images to compare, in units of the window, and their agreement with the truth inside the field of view."""
    coarse, found, fine = (Window(*WINDOW).to_unit(v.voxels) for v in (scan, result, truth))
    cubic = np.stack([enlarge_slice(image, fine.shape[1:]) for image in coarse])
    mask = cylinder(fine.shape, fill=0.95)
    images = {"coarse scan": coarse, "cubic": np.clip(cubic, 0, 1), "super-resolved": found, "truth": fine}
    compared = ("cubic", "super-resolved")
    images["psnr"] = {name: psnr(images[name], fine, mask=mask) for name in compared}
    images["ssim"] = {name: ssim(images[name], fine, mask=mask) for name in compared}
    return images


def draw(images: dict, scan: Volume, path: Path) -> None:
    """Before, cubic, after, truth and both differences: a whole slice and a detail."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    middle = len(images["truth"]) // 2
    fine = images["truth"][middle]
    panels = [
        ("coarse scan", np.kron(images["coarse scan"][middle], np.ones((2, 2)))),
        ("cubic interpolation", images["cubic"][middle]),
        ("super-resolved", images["super-resolved"][middle]),
        ("truth", fine),
        ("cubic - truth", images["cubic"][middle] - fine),
        ("super-resolved - truth", images["super-resolved"][middle] - fine),
    ]
    detail = liveliest(fine, int(ZOOM_MM / (scan.spacing[0] / 2)))
    figure, axes = pyplot.subplots(2, len(panels), figsize=(3.1 * len(panels), 6.6), layout="constrained")
    for column, (title, image) in enumerate(panels):
        look = (
            {"cmap": "RdBu_r", "vmin": -0.25, "vmax": 0.25}
            if " - " in title
            else {"cmap": "gray", "vmin": 0, "vmax": 1}
        )
        for row, part in enumerate((image, image[detail])):
            axes[row, column].imshow(part, interpolation="nearest", **look)
            axes[row, column].set_axis_off()
        axes[0, column].set_title(_caption(title, images), fontsize=10)
    figure.suptitle(
        f"Procedural jaw section, {scan.spacing[0]:.3g} mm pixels to {scan.spacing[0] / 2:.4g} mm; "
        f"below: {ZOOM_MM:.0f} mm detail. Fine detail is predicted by a network; not for diagnosis.",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def figures(scan: Volume, result: Volume, images: dict, node: slicer.vtkMRMLScalarVolumeNode, seconds: float) -> str:
    """The figures of the run, as a table."""
    run = json.loads(node.GetAttribute("CBCTSuperRes.report"))["super_resolution"]
    lines = [
        "",
        f"Scan            {_facts(scan)}",
        f"Super-resolved  {_facts(result)}",
        f"Model           {run['model']} on {run['device']}; {run['window_reason']}",
        f"Blank region    {100 * run['blank']['share']:.0f} %. {run['blank']['rule']}",
        f"Time            {seconds:.1f} s from click to node, of which {run['seconds']['computing']:.1f} s computing",
        f"Memory          {readable(run['peak_memory_bytes'])} at the worker's peak, PyTorch included",
        "",
        f"{'':16}{'PSNR':>10}{'SSIM':>10}   against the fine scan, inside the field of view",
    ]
    for name in ("cubic", "super-resolved"):
        lines.append(f"{name:16}{images['psnr'][name]:>7.2f} dB{images['ssim'][name]:>10.4f}")
    return "\n".join(lines)


def _caption(title: str, images: dict) -> str:
    name = title.replace(" interpolation", "")
    return f"{title}\n{images['psnr'][name]:.2f} dB" if name in images["psnr"] else title


def _facts(volume: Volume) -> str:
    size = " x ".join(map(str, volume.grid.size))
    return f"{size} voxels of {' x '.join(f'{s:.4g}' for s in volume.spacing)} mm, {volume.voxels.dtype}"


if __name__ == "__main__":
    sys.exit(main())

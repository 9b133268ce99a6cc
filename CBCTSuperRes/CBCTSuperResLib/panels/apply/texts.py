"""What the panel says of volumes, models, estimates, results and batches."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ... import __version__
from ...apply.plan import Plan
from ...core.memory import readable
from ...core.options import Options
from ...core.packages import missing_packages
from ...core.progress import duration_text
from ...io.volume import Volume
from ...jobs.queue import Item, State
from ...models.card import ModelCard
from ...scan.window_choice import WindowChoice
from ...scene.nodes import inputOf


def volumeText(volume: Volume) -> str:
    """ "400 x 400 x 280, 0.3 x 0.3 x 0.3 mm, int16, 90 MB"."""
    size = " x ".join(map(str, volume.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing)
    return f"{size}, {spacing} mm, {volume.voxels.dtype}, {readable(volume.voxels.nbytes)}"


def cardText(card: ModelCard) -> str:
    """What matters for choosing a model, in a line."""
    spec = card.spec
    way = _("{factor} in slices") if spec.dimensions == 2 else _("{factor} in blocks")
    facts = [way.format(factor=spec.scale_text)]
    if card.voxel_size_mm:
        smallest, largest = card.voxel_size_mm
        facts.append(_("trained for voxels of {lo:g} to {hi:g} mm").format(lo=smallest, hi=largest))
    facts.append(_("license: {license}").format(license=card.licence))
    return _("Model {name}: {facts}").format(name=card.name, facts=", ".join(facts))


def windowText(choice: WindowChoice) -> str:
    """Why a window was chosen, how much of what was measured is outside of it, and what to beware of."""
    clipped = _("Outside the window: {below:.1f} % darker, {above:.1f} % brighter.").format(
        below=100 * choice.clipped_below, above=100 * choice.clipped_above
    )
    return "\n".join([choice.reason, clipped, *choice.warnings])


def planText(plan: Plan) -> str:
    """Size, spacing, memory and time of a result that is not there yet."""
    text = _("{size}, {spacing} mm, {bytes}; about {duration} and {memory} of memory")
    if not plan.seconds_are_measured:
        text += _(" (the time is a guess until the model has run here)")
    return text.format(
        size=" x ".join(map(str, plan.grid.size)),
        spacing=" x ".join(f"{s:.3g}" for s in plan.grid.spacing),
        bytes=readable(plan.output_bytes),
        duration=duration_text(plan.seconds),
        memory=readable(plan.memory_bytes),
    )


def optionsText(options: Options) -> str:
    """The options that are not the usual ones."""
    usual = Options().to_json()
    chosen = [f"{name} {value}" for name, value in options.to_json().items() if value != usual[name]]
    return ", ".join(chosen) or _("usual options")


def resultText(node: slicer.vtkMRMLScalarVolumeNode, report: dict) -> str:
    """What a result is, what it was made of and how."""
    run, scan = report["super_resolution"], inputOf(node)
    lines = [
        _(
            "{name}: super-resolved volume (model prediction). Fine detail is predicted by a network; not for "
            "diagnosis."
        ),
        _("From {scan}, with the model {model}, {planes}, window {lo} to {hi}; {size} voxels of {spacing} mm."),
    ]
    seconds = sum(report.get("seconds", {}).values())
    if seconds:
        lines.append(_("Computed in {duration} on {device}."))
    window = run.get("window", [0, 0])
    return "\n".join(lines).format(
        name=node.GetName(),
        scan=scan.GetName() if scan else _("a volume that is no longer here"),
        model=run.get("model", ""),
        planes=_("in slices") if run.get("planes") == "axial" else _("in all axes"),
        lo=f"{window[0]:.5g}",
        hi=f"{window[1]:.5g}",
        size=" x ".join(str(n) for n in run.get("output_size", [])),
        spacing=" x ".join(f"{s:.3g}" for s in run.get("output_spacing_mm", [])),
        duration=duration_text(seconds),
        device=run.get("device", ""),
    )


def warningsText(report: dict) -> str:
    """What to beware of: of the run, and what the quality figures say."""
    quality = report["super_resolution"].get("quality") or {}
    found = [*report.get("warnings", ()), *quality.get("warnings", ())]
    return "\n".join(dict.fromkeys(str(warning) for warning in found))


def batchItemText(item: Item) -> str:
    """What became of an item of a batch, in a line."""
    if item.state is State.WAITING:
        return _("Waiting")
    if item.state is State.RUNNING:
        return _("{percent} %, {stage}").format(percent=round(100 * item.fraction), stage=item.message or _("Starting"))
    if item.state is State.SKIPPED:
        return _("Up to date, skipped")
    if item.state is State.CANCELLED:
        return _("Cancelled")
    if item.state is State.FAILED:
        return _("Failed: {reason}").format(reason=item.error)
    result, name = item.result, _("removed since")
    if isinstance(result, Path):
        name = f"{result.name}, {readable(result.stat().st_size)}" if result.exists() else result.name
    elif result is not None:
        image = result.GetImageData()
        size = "" if image is None else ", " + " x ".join(str(n) for n in image.GetDimensions())
        name = result.GetName() + size
    return ", ".join([_("Done"), name, duration_text(item.seconds)])


def batchText(items: list[Item]) -> str:
    """How many items of a batch came to which end."""
    words = {
        State.DONE: _("done"),
        State.SKIPPED: _("skipped"),
        State.FAILED: _("failed"),
        State.CANCELLED: _("cancelled"),
    }
    states = [item.state for item in items]
    return ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)


def versionsText() -> str:
    """This extension, Slicer, Python and PyTorch; nothing is imported to find out."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = _("not installed")
    text = _("CBCT Super-Resolution {ours}, Slicer {slicer}, Python {python}, PyTorch {torch}")
    text = text.format(
        ours=__version__, slicer=slicer.app.applicationVersion, python=platform.python_version(), torch=torch
    )
    missing = missing_packages()
    if missing:
        text += "\n" + _("Missing, offered on Apply: {packages}").format(packages=", ".join(missing))
    return text

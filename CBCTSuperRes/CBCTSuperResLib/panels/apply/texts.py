"""What the panel says of volumes, models, estimates, results and batches."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ... import __version__
from ...apply.engines import TITLES, installed_engines
from ...apply.engines.speed_records import known_engines
from ...apply.factors import THREE_PLANES_TIME
from ...apply.plan import Plan
from ...core.memory import readable
from ...core.options import Options
from ...core.packages import installed_version, missing_packages, packages_to_offer
from ...core.progress import duration_text
from ...io.volume import Volume
from ...jobs.queue import Item, State
from ...models.card import ModelCard
from ...scan.window_choice import WindowChoice
from ...scene.nodes import inputOf

ALL_IS_WITHIN = "holds all that the scan shows"  # in the reason for an automatic window
SAID_OUTSIDE = 0.001  # share of what was measured that is worth a word


def volumeText(volume: Volume) -> str:
    """ "400 x 400 x 280 voxels of 0.3 mm, int16, 90 MB"."""
    size = _gridText(volume.grid.size, volume.spacing)
    return f"{size}, {volume.voxels.dtype}, {readable(volume.voxels.nbytes)}"


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


def voxelsText(card: ModelCard) -> str:
    """For which voxels a model was trained; "" if it does not tell."""
    if not card.voxel_size_mm:
        return ""
    smallest, largest = card.voxel_size_mm
    return _("For voxels of {lo:g} to {hi:g} mm").format(lo=smallest, hi=largest)


def threePlanesText() -> str:
    """What the usual model does instead of a model of blocks that was taken for a voxel size."""
    text = _("In all axes it does, closer to the truth and some {times} times as long.")
    return text.format(times=THREE_PLANES_TIME)


def windowLine(preset: str, choice: WindowChoice) -> str:
    """A window in a line: "Window: 139 to 2514, fits (automatic)"."""
    window, verdict = choice.window, _("fits")
    if choice.warnings:
        verdict = _("leaves out {percent:.0f} %").format(percent=100 * choice.clipped_share)
    text = _("Window: {lo} to {hi}, {verdict} ({preset})")
    preset = preset[:1].lower() + preset[1:] if preset[1:2].islower() else preset
    return text.format(preset=preset, lo=f"{window.lo:.5g}", hi=f"{window.hi:.5g}", verdict=verdict)


def windowText(choice: WindowChoice) -> str:
    """Why a window was chosen, and what lies outside of it."""
    window, levels, outside = choice.window, choice.levels, []
    if choice.clipped_below >= SAID_OUTSIDE:
        outside.append(_("air and soft tissue") if levels.soft < window.lo else _("air"))
    if choice.clipped_above >= SAID_OUTSIDE:
        outside.append(_("bone and enamel") if levels.bone > window.hi else _("enamel and metal"))
    if not outside:
        isSaid = ALL_IS_WITHIN in choice.reason
        return choice.reason if isSaid else f"{choice.reason}\n" + _("All of the scan lies within it.")
    text = _("{percent:.1f} % of the scan lie outside of it ({tissues}) and are only interpolated.")
    tissues = _(" and ").join(outside)
    return f"{choice.reason}\n" + text.format(percent=100 * choice.clipped_share, tissues=tissues)


def planText(plan: Plan) -> str:
    """Size, spacing and time of a result that is not there yet."""
    text = (
        _("{size}, {bytes}; about {duration}") if plan.seconds_are_measured else _("{size}, {bytes}; {duration} or so")
    )
    return text.format(
        size=_gridText(plan.grid.size, plan.grid.spacing),
        bytes=readable(plan.output_bytes),
        duration=duration_text(plan.seconds),
    )


def planDetails(plan: Plan) -> str:
    """What a run will take, and how sure that is."""
    text = _("At the peak, about {memory} of memory.").format(memory=readable(plan.memory_bytes))
    if plan.seconds_are_measured:
        return _("The time is that of earlier runs of this model on this computer.") + " " + text
    return _("The time is a guess until the model has run on this computer.") + " " + text


def _gridText(size, spacing) -> str:
    """ "400 x 400 x 280 voxels of 0.3 mm", or of three spacings."""
    sides = [f"{s:.3g}" for s in spacing]
    sides = sides[:1] if len(set(sides)) == 1 else sides
    return _("{size} voxels of {spacing} mm").format(size=" x ".join(map(str, size)), spacing=" x ".join(sides))


def optionsText(options: Options) -> str:
    """The options that are not the usual ones."""
    usual = Options().to_json()
    chosen = [f"{name} {value}" for name, value in options.to_json().items() if value != usual[name]]
    return ", ".join(chosen) or _("no option changed")


def resultText(node: slicer.vtkMRMLScalarVolumeNode, report: dict) -> str:
    """What a result is, what it was made of and how."""
    run, scan = report["super_resolution"], inputOf(node)
    lines = [
        _("{name}: denoised volume (model prediction), not for diagnosis.")
        if max(run.get("scale", [2])) == 1
        else _("{name}: super-resolved volume (model prediction), not for diagnosis."),
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
        device=re.sub("^cpu", _("the processor"), run.get("device", "")),
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


def enginesText(card: ModelCard | None) -> str:
    """Which engines are installed, and how fast each computed a model on this computer; a line each."""
    installed, measured, lines = installed_engines(), known_engines(card) if card else [], []
    for engine, version in installed.items():
        speeds = []
        for found in [found for found in measured if found.engine == engine]:
            text = _("{speed} voxels a second in {precision}")
            speed = f"{found.voxels_per_second:,.0f}"
            speeds.append(found.problem or text.format(speed=speed, precision=found.precision))
        speeds = ", ".join(speeds) or _("not measured with this model")
        lines.append(_("{engine} {version}: {speeds}").format(engine=TITLES[engine], version=version, speeds=speeds))
    absent = [title for engine, title in TITLES.items() if engine not in installed]
    return "\n".join([*lines, *([_("Not installed: {engines}").format(engines=", ".join(absent))] if absent else [])])


def versionsText() -> str:
    """This extension, Slicer, Python and PyTorch; nothing is imported to find out."""
    torch = installed_version("torch") or _("not installed")
    text = _("CBCT Super-Resolution {ours}, Slicer {slicer}, Python {python}, PyTorch {torch}")
    text = text.format(
        ours=__version__, slicer=slicer.app.applicationVersion, python=platform.python_version(), torch=torch
    )
    missing = missing_packages(packages_to_offer(needs_torch=False))
    if missing:
        text += "\n" + _("Missing, offered on Apply: {packages}").format(packages=", ".join(missing))
    return text

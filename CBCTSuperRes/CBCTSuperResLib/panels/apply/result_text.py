"""What the panel says of a result, from the report that the result carries."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ...progress import duration_text
from ...scene.nodes import inputOf


def resultText(node: slicer.vtkMRMLScalarVolumeNode, report: dict) -> str:
    """What it is, what it was made of and how."""
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

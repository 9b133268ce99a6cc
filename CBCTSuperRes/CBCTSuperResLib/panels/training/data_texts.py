"""What was found in images and in scans that were prepared, in words; what is wrong comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slicer.i18n import tr as _

MOST_SHOWN = 12
GOOD, FAIR = 0.25, 0.6  # residual misalignment in coarse voxels


def checkText(report: Mapping) -> str:
    """The report of `TrainingLogic.checkData`."""
    train, val = report["train"], report["val"]
    parts = [_warningsText(report["warnings"]) or _("No problems were found.")]
    parts.append(_setText(_("Training"), train, [_imagesText(train["images"]), _windowText(train)]))
    if val:
        parts.append(_setText(_("Validation"), val, [_("{count} images").format(count=val["count"])]))
    else:
        parts.append(_("Validation: no images. The best model will be the latest one."))
    return "\n\n".join(parts)


def prepareText(report: Mapping) -> str:
    """The report of `TrainingLogic.prepare`, of one pair or of folders."""
    return _foldersText(report) if "pairs" in report else _pairText(report)


def alignmentText(alignment: Mapping) -> str:
    """How well a registered pair is aligned: in mm, and what that means."""
    share = alignment["median_mm"] / alignment["lr_voxel_mm"]
    verdict = _("good") if share <= GOOD else _("fair") if share <= FAIR else _("poor: look at the checkerboard")
    return _(
        "Residual misalignment: {median:.3f} mm (median), {p95:.3f} mm (95 % of the blocks), where a coarse voxel is "
        "{voxel:.3g} mm: {verdict}."
    ).format(median=alignment["median_mm"], p95=alignment["p95_mm"], voxel=alignment["lr_voxel_mm"], verdict=verdict)


def _pairText(report: Mapping) -> str:
    region, moved = report["region"], report["registration"]
    registered = _("Registered: from {start} moved by {mm:.2f} mm and turned by {degrees:.2f} degrees.").format(
        start=moved["begun_from"], mm=moved["shift_from_start_mm"], degrees=moved["rotation_from_start_deg"]
    )
    lines = [
        registered if moved["done"] else _("Not registered; the scans were taken to be aligned."),
        alignmentText(report["alignment"]),
        _(
            "Common region: {fine} fine voxels of {fineSpacing} mm, {coarse} coarse voxels of {coarseSpacing} mm."
        ).format(
            fine=by(region["hr_size"]),
            fineSpacing=by(region["hr_spacing_mm"]),
            coarse=by(region["lr_size"]),
            coarseSpacing=by(region["lr_spacing_mm"]),
        ),
        _("Windows: fine {fine}, coarse {coarse} gray values.").format(
            fine=_rangeText(report["window_hr"]), coarse=_rangeText(report["window_lr"])
        ),
    ]
    title = _("{name} is prepared.").format(name=report["name"])
    return "\n\n".join(filter(None, [_warningsText(report["warnings"]), "\n".join([title, *lines])]))


def _foldersText(report: Mapping) -> str:
    count = _("{pairs} pairs are prepared, {failed} failed.").format(
        pairs=len(report["pairs"]), failed=len(report["failed"])
    )
    advice = [f"{failed['name']}: {failed['advice']}" for failed in report["failed"]]
    pairs = [
        _("{name} ({use}, patient {patient}): {slices} slices, misalignment {median:.3f} mm").format(
            name=pair["name"],
            use=_useText(pair["set"]),
            patient=pair["patient"],
            slices=pair["slices"],
            median=pair["median_mm"],
        )
        for pair in sorted(report["pairs"], key=lambda pair: -pair["median_mm"])
    ]
    warnings = [*report["warnings"], *advice]
    warnings += [f"{pair['name']}: {text}" for pair in report["pairs"] for text in pair["warnings"]]
    return "\n\n".join(filter(None, [_warningsText(warnings), count, "\n".join(_shortened(pairs))]))


def _useText(use: str) -> str:
    return _("training") if use == "train" else _("validation")


def _warningsText(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return "\n".join([_("Look at this first:"), *(f"- {text}" for text in dict.fromkeys(warnings))])


def _setText(title: str, told: Mapping, facts: Sequence[str]) -> str:
    lines = [*facts, *_sizeLines(told["sizes"]), *_fileLines(told.get("files", ())), *_displacementLines(told)]
    return "\n".join([f"{title}:", *filter(None, lines), *_patientLines(told["patients"])])


def _imagesText(counts: Mapping[str, int]) -> str:
    names = {
        "pairs": _("{count} pairs of images"),
        "scans": _("{count} fine images, coarse ones simulated"),
        "public": _("{count} images of public scans"),
        "procedural": _("{count} computer-drawn images"),
    }
    return ", ".join(names[kind].format(count=count) for kind, count in counts.items())


def _windowText(told: Mapping) -> str:
    text = _("Window: {window} gray values, {share:.1%} of the values lie outside")
    return text.format(window=_rangeText(told["window"]), share=told["clipped_share"])


def _sizeLines(sizes: Sequence[Mapping]) -> list[str]:
    text = _("{count} of {size} pixels")
    told = [text.format(count=one["images"], size=by(one["size"][::-1])) for one in sizes]
    return [_("Sizes: {sizes}").format(sizes=", ".join(_shortened(told)))] if told else []


def _fileLines(files: Sequence[Mapping]) -> list[str]:
    names = {"LR": _("Coarse images"), "HR": _("Fine images")}
    lines = []
    for one in files:
        edges = one["voxel_size_mm"]
        spacing = _("voxel size not recorded") if edges is None else _("{edges} mm").format(edges=_spanText(edges))
        lines.append(f"{names[one['role']]}: {', '.join(one['types'])}, {spacing}")
    return lines


def _displacementLines(told: Mapping) -> list[str]:
    found = told["displacement"]
    if found is None:
        return []
    text = _("Misalignment of pairs: {median:.2f} fine pixels (median of {checked}), at most {worst:.2f} in {name}")
    return [
        text.format(median=found["median"], checked=found["checked"], worst=found["worst"], name=found["worst_name"])
    ]


def _patientLines(patients: Mapping[str, int]) -> list[str]:
    told = [_("{name}: {count} images").format(name=name, count=count) for name, count in patients.items()]
    return [_("By patient (or file):"), *(f"  {line}" for line in _shortened(told))] if told else []


def _shortened(lines: Sequence[str]) -> list[str]:
    if len(lines) <= MOST_SHOWN:
        return list(lines)
    return [*lines[: MOST_SHOWN - 1], _("and {count} more").format(count=len(lines) - MOST_SHOWN + 1)]


def by(numbers: Sequence[float]) -> str:
    """ "400 x 400 x 280"."""
    return " x ".join(f"{number:.6g}" for number in numbers)


def _rangeText(window: Sequence[float]) -> str:
    return _("{low:.6g} to {high:.6g}").format(low=window[0], high=window[1])


def _spanText(edges: Sequence[float]) -> str:
    return f"{edges[0]:.3g}" if edges[0] == edges[-1] else f"{edges[0]:.3g} - {edges[-1]:.3g}"

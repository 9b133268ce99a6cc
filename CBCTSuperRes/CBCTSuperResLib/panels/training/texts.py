"""What the panel says of data, registered pairs and runs; what is wrong comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from slicer.i18n import tr as _

from ...core.progress import duration_text
from ...jobs.training import TrainingJob
from ...models.card import ModelCard
from ...models.folder import ModelEntry
from ...train.curves import Row
from ...train.run_folder import RunInfo, RunRecord
from .parameters import Which

MOST_LINES = 12
GOOD, FAIR = 0.25, 0.6  # residual misalignment in coarse voxels
DAY_S, YEAR_S = 86400, 365 * 86400


def kindText(kind: tuple[str, str]) -> str:
    """A kind of model for people; one that has no words here is told by its recipe and network."""
    texts = {
        ("unetspsr", "unetspsr_net"): _("UNetSPSR: edges and texture"),
        ("unetspsr", "residual_net"): _("Residual: plain and fast"),
        ("arssr", "any_size_net"): _("Any voxel size: volumes"),
        ("srgan3d", "srgan3d_net"): _("3D SRGAN: volumes, x2, x4"),
        ("perceptual", "perceptual2d_net"): _("Perceptual: slices, x4"),
        ("srcyclegan", "srcyclegan_net"): _("SR-CycleGAN: unpaired, x4"),
    }
    return texts.get(kind, " + ".join(kind))


def presetText(name: str, seconds: float | None) -> str:
    """A preset for people, with the time that it takes here; in words as long as that is not known."""
    texts = {
        "quick-look": (_("Quick look"), _("minutes")),
        "light": (_("Light"), _("hours")),
        "unetspsr-full": (_("Full size"), _("days, with a GPU")),
        "any-size": (_("Light"), _("hours")),
        "srgan3d": (_("Small"), _("minutes")),
        "perceptual-mse-nn": (_("Squared differences"), _("hours")),
        "srcyclegan": (_("Small"), _("hours")),
    }
    title, words = texts.get(name, (name, ""))
    if seconds is not None:
        words = _("about {duration} here").format(duration=longDuration(seconds))
    return f"{title} ({words})" if words else title


def entryText(entry: ModelEntry) -> str:
    """What is known of a model."""
    card = entry.card
    if card is None:
        return entry.problem
    parts = [card.line, card.summary, card.limits and _("Limits: {limits}").format(limits=card.limits), str(entry.path)]
    return "\n\n".join(part for part in parts if part)


def usedText(name: str, which: Which, card: ModelCard) -> str:
    """Which model was made, and of which weights."""
    weights = _("the best in validation") if which is Which.best else _("the latest")
    text = _("CBCT Super-Resolution lists the model {name} and has chosen it: {weights}, from step {step:,d}.")
    return text.format(name=name, weights=weights, step=int(card.training.get("iterations", 0)))


def useText(use: str) -> str:
    """What a scan is used for: "train" or "val"."""
    return _("Training") if use == "train" else _("Validation")


def shortened(lines: Sequence[str]) -> list[str]:
    """The first of many lines, and how many more there are."""
    if len(lines) <= MOST_LINES:
        return list(lines)
    return [*lines[: MOST_LINES - 1], _("and {count} more").format(count=len(lines) - MOST_LINES + 1)]


def checkText(report: Mapping) -> str:
    """The report of `TrainingLogic.checkData`."""
    train, val = report["train"], report["val"]
    kinds = {
        "pairs": _("{count} pairs of images"),
        "scans": _("{count} fine images, coarse ones simulated"),
        "public": _("{count} images of public scans"),
        "procedural": _("{count} computer-drawn images"),
    }
    images = ", ".join(kinds[kind].format(count=count) for kind, count in train["images"].items())
    window = _("Window: {window} gray values, {share:.1%} of the values lie outside").format(
        window=_rangeText(train["window"]), share=train["clipped_share"]
    )
    parts = [_warningsText(report["warnings"]) or _("No problems were found.")]
    parts.append(_setText("train", train, [images, window]))
    if val:
        parts.append(_setText("val", val, [_("{count} images").format(count=val["count"])]))
    else:
        parts.append(_("Validation: no images. The best model will be the latest one."))
    return "\n\n".join(parts)


def _setText(use: str, found: Mapping, facts: Sequence[str]) -> str:
    """What was found in the images for training or validation."""
    lines = [f"{useText(use)}:", *filter(None, facts)]
    size = _("{count} of {size} pixels")
    sizes = [size.format(count=one["images"], size=by(one["size"][::-1])) for one in found["sizes"]]
    if sizes:
        lines.append(_("Sizes: {sizes}").format(sizes=", ".join(shortened(sizes))))
    roles = {"LR": _("Coarse images"), "HR": _("Fine images")}
    for one in found.get("files", ()):
        edges, spacing = one["voxel_size_mm"], _("voxel size not recorded")
        if edges is not None:
            span = f"{edges[0]:.3g}" if edges[0] == edges[-1] else f"{edges[0]:.3g} - {edges[-1]:.3g}"
            spacing = _("{edges} mm").format(edges=span)
        lines.append(f"{roles[one['role']]}: {', '.join(one['types'])}, {spacing}")
    moved = found["displacement"]
    if moved is not None:
        text = _("Misalignment of pairs: {median:.2f} fine pixels (median of {checked}), at most {worst:.2f} in {name}")
        lines.append(
            text.format(
                median=moved["median"], checked=moved["checked"], worst=moved["worst"], name=moved["worst_name"]
            )
        )
    patient = _("{name}: {count} images")
    patients = [patient.format(name=name, count=count) for name, count in found["patients"].items()]
    if patients:
        lines += [_("By patient (or file):"), *(f"  {line}" for line in shortened(patients))]
    return "\n".join(lines)


def prepareText(report: Mapping) -> str:
    """The report of `TrainingLogic.prepare`, of one pair or of folders."""
    if "pairs" in report:
        return _foldersText(report)
    region, moved = report["region"], report["registration"]
    registered = _("Registered: from {start} moved by {mm:.2f} mm and turned by {degrees:.2f} degrees.").format(
        start=moved["begun_from"], mm=moved["shift_from_start_mm"], degrees=moved["rotation_from_start_deg"]
    )
    common = _("Common region: {fine} fine voxels of {fineSpacing} mm, {coarse} coarse voxels of {coarseSpacing} mm.")
    lines = [
        _("{name} is prepared.").format(name=report["name"]),
        registered if moved["done"] else _("Not registered; the scans were taken to be aligned."),
        alignmentText(report["alignment"]),
        common.format(
            fine=by(region["hr_size"]),
            fineSpacing=by(region["hr_spacing_mm"]),
            coarse=by(region["lr_size"]),
            coarseSpacing=by(region["lr_spacing_mm"]),
        ),
        _("Windows: fine {fine}, coarse {coarse} gray values.").format(
            fine=_rangeText(report["window_hr"]), coarse=_rangeText(report["window_lr"])
        ),
    ]
    return "\n\n".join(filter(None, [_warningsText(report["warnings"]), "\n".join(lines)]))


def alignmentText(alignment: Mapping) -> str:
    """How well a registered pair is aligned: in mm, and what that means."""
    share = alignment["median_mm"] / alignment["lr_voxel_mm"]
    verdict = _("good") if share <= GOOD else _("fair") if share <= FAIR else _("poor: look at the checkerboard")
    return _(
        "Residual misalignment: {median:.3f} mm (median), {p95:.3f} mm (95 % of the blocks), where a coarse voxel is "
        "{voxel:.3g} mm: {verdict}."
    ).format(median=alignment["median_mm"], p95=alignment["p95_mm"], voxel=alignment["lr_voxel_mm"], verdict=verdict)


def _foldersText(report: Mapping) -> str:
    text = _("{name} ({use}, patient {patient}): {slices} slices, misalignment {median:.3f} mm")
    pairs = [
        text.format(
            name=pair["name"],
            use=_("training") if pair["set"] == "train" else _("validation"),
            patient=pair["patient"],
            slices=pair["slices"],
            median=pair["median_mm"],
        )
        for pair in sorted(report["pairs"], key=lambda pair: -pair["median_mm"])
    ]
    warnings = [*report["warnings"], *(f"{failed['name']}: {failed['advice']}" for failed in report["failed"])]
    warnings += [f"{pair['name']}: {text}" for pair in report["pairs"] for text in pair["warnings"]]
    count = _("{pairs} pairs are prepared, {failed} failed.").format(
        pairs=len(report["pairs"]), failed=len(report["failed"])
    )
    return "\n\n".join(filter(None, [_warningsText(warnings), count, "\n".join(shortened(pairs))]))


def _warningsText(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return "\n".join([_("Look at this first:"), *(f"- {text}" for text in dict.fromkeys(warnings))])


def by(numbers: Sequence[float]) -> str:
    """ "400 x 400 x 280"."""
    return " x ".join(f"{number:.6g}" for number in numbers)


def _rangeText(window: Sequence[float]) -> str:
    return _("{low:.6g} to {high:.6g}").format(low=window[0], high=window[1])


def stateText(run: RunInfo) -> str:
    """ "My model: stopped"."""
    states = {
        "running": _("running"),
        "stopped": _("stopped"),
        "finished": _("finished"),
        "failed": _("failed"),
        "interrupted": _("ended unexpectedly"),
    }
    return _("{name}: {state}").format(name=run.name, state=states[run.state])


def listText(run: RunInfo) -> str:
    """Two lines for a list: name and state; step, best result and date."""
    facts = [_("step {step:,d} of {niter:,d}").format(step=run.step, niter=run.niter)]
    if "psnr" in run.best:
        facts.append(_("best {psnr:.2f} dB").format(psnr=run.best["psnr"]))
    if run.updated:
        facts.append(f"{datetime.fromtimestamp(run.updated):%Y-%m-%d %H:%M}")
    return stateText(run) + "\n" + ", ".join(facts)


def runText(run: RunInfo, record: RunRecord | TrainingJob) -> str:
    """What is known of a run: how far it is, its losses, its results, and why it ended."""
    step = _("Step {step:,d} of {niter:,d}").format(step=run.step, niter=run.niter) if run.niter else ""
    reason = run.message if run.state != "running" else ""
    lines = [stateText(run), step, lossText(record.history), validationText(record.validations), reason]
    return "\n".join(line for line in lines if line)


def lossText(history: Sequence[Row]) -> str:
    """The newest losses: of the generator in all, of its pixels, of the discriminators."""
    row = history[-1] if history else {}
    names = [name for name in ("l_g_total", "l_g_pix", "l_d_real", "l_d_fake") if name in row]
    losses = ", ".join(f"{lossTitle(name)} {row[name]:.3g}" for name in names)
    return _("Losses: {losses}").format(losses=losses) if losses else ""


def validationText(validations: Sequence[Row]) -> str:
    """The newest PSNR beside that of cubic interpolation, and which is better."""
    if not validations or "psnr" not in validations[-1]:
        return ""
    row = validations[-1]
    if "psnr_cubic" not in row:
        return _("PSNR {psnr:.2f} dB at step {step:,d}").format(**row)
    gain = row["psnr"] - row["psnr_cubic"]
    verdict = _("{gain:.2f} dB better than") if gain >= 0 else _("{gain:.2f} dB worse than")
    text = _("PSNR {psnr:.2f} dB, {verdict} cubic interpolation ({psnr_cubic:.2f} dB), at step {step:,d}")
    return text.format(verdict=verdict.format(gain=abs(gain)), **row)


def lossTitle(name: str) -> str:
    """A loss in words; names that are not known stay as they are."""
    titles = {
        "l_g_total": _("generator (total)"),
        "l_g_pix": _("pixels"),
        "l_g_pix_grad_branch": _("edges (branch)"),
        "l_g_pix_grad": _("edges"),
        "l_g_fea": _("features"),
        "l_g_gan": _("adversarial"),
        "l_g_gan_grad": _("adversarial (edges)"),
        "l_d_real": _("discriminator (real)"),
        "l_d_fake": _("discriminator (made)"),
        "l_d_real_grad": _("edge discriminator (real)"),
        "l_d_fake_grad": _("edge discriminator (made)"),
    }
    return titles.get(name, name)


def progressText(job: TrainingJob) -> str:
    """The stage of a training that goes on, and how long it will take."""
    left = longDuration(job.remaining)
    if not left or job.isFinished or job.isStopping:
        return job.message
    return _("{stage}, {duration} left").format(stage=job.message, duration=left)


def longDuration(seconds: float | None) -> str:
    """As `duration_text`, in days or years where there are many hours."""
    if seconds is None or seconds < 2 * DAY_S:
        return duration_text(seconds)
    if seconds < 2 * YEAR_S:
        return _("{days} days").format(days=round(seconds / DAY_S))
    return _("{years} years").format(years=round(seconds / YEAR_S))

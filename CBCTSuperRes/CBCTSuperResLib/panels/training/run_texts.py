"""How runs go, in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from slicer.i18n import tr as _

from ...core.progress import duration_text
from ...jobs.training import TrainingJob
from ...train.curves import Row
from ...train.run_folder import RunInfo, RunRecord

DAY_S = 86400


def stateText(run: RunInfo) -> str:
    """ "stopped", "failed: why"."""
    names = {
        "running": _("running"),
        "stopped": _("stopped"),
        "finished": _("finished"),
        "failed": _("failed"),
        "interrupted": _("ended unexpectedly"),
    }
    return names[run.state]


def listText(run: RunInfo) -> str:
    """Two lines for a list: name and state; step, best result and date."""
    facts = [_("step {step:,d} of {niter:,d}").format(step=run.step, niter=run.niter)]
    if "psnr" in run.best:
        facts.append(_("best {psnr:.2f} dB").format(psnr=run.best["psnr"]))
    if run.updated:
        facts.append(f"{datetime.fromtimestamp(run.updated):%Y-%m-%d %H:%M}")
    first = _("{name}: {state}").format(name=run.name, state=stateText(run))
    return first + "\n" + ", ".join(facts)


def runText(run: RunInfo, record: RunRecord | TrainingJob) -> str:
    """What is known of a run: how far it is, its losses, its results, and why it ended."""
    lines = [
        _("{name}: {state}").format(name=run.name, state=stateText(run)),
        stepText(run.step, run.niter),
        lossText(record.history),
        validationText(record.validations),
        run.message if run.state != "running" else "",
    ]
    return "\n".join(line for line in lines if line)


def progressText(job: TrainingJob) -> str:
    """The stage of a training that goes on, and how long it will take."""
    left = longDuration(job.remaining)
    if not left or job.isFinished or job.isStopping:
        return job.message
    return _("{stage}, {duration} left").format(stage=job.message, duration=left)


def stepText(step: int, niter: int) -> str:
    return _("Step {step:,d} of {niter:,d}").format(step=step, niter=niter) if niter else ""


def lossText(history: Sequence[Row]) -> str:
    """The newest losses: of the generator in all, of its pixels, of the discriminators."""
    if not history:
        return ""
    row = history[-1]
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


def longDuration(seconds: float | None) -> str:
    """As `duration_text`, in days where there are many hours."""
    if seconds is None or seconds < 2 * DAY_S:
        return duration_text(seconds)
    return _("{days} days").format(days=round(seconds / DAY_S))

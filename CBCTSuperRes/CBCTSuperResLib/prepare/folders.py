"""Folders of scans: paired by name, prepared one by one, split by patient into training and validation."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.atomic import replacing_folder, write_json
from ..core.errors import InputError, OptionError
from ..core.progress import Report, part_of
from ..io.folders import scans_in, told
from .images import stop_if
from .options import PrepareOptions
from .pair import DATASETS, PICTURE, REPORT, TRANSFORM, dataset, safe_name, scan_name, write_pair

SETS = ("train", "val")
_SIDE = re.compile(r"(?:^(?:lr|hr)[ _.-]+)|(?:[ _.-]+(?:lr|hr)$)", re.IGNORECASE)
_SAME_WINDOW = 0.02
_TRANSFORMS = (".tfm", ".txt", ".h5", ".mat")


@dataclass(frozen=True)
class Item:
    """Two scans of one name."""

    name: str
    patient: str
    lr: Path
    hr: Path


def prepare_folders(
    lr: str | Path,
    hr: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Prepare all pairs of two folders of scans.

    Scans pair by their files' names; a beginning "LR_" or end "_LR" (or HR) does not count. All pairs of a patient are
    either for training or for validation. A pair that fails is reported, and the rest go on. Writes train/ and val/,
    each with HR/ and LR/, reports/NAME/ with each pair's report, picture and transform, report.json and datasets.json.
    All of it appears at the end, or nothing.

    `options.initial` may name a folder with a transform for each pair, NAME.tfm.

    Parameters
    ----------
    lr, hr : path
        Folders of volume files, or of folders of DICOM files or slices.
    out, options, progress, cancelled
        As for `prepare_pair`.

    Returns
    -------
    dict
        The content of report.json: "pairs", "failed", "unpaired", "patients" and "warnings".

    Raises
    ------
    InputError
        If no scans pair, or all pairs failed.
    OptionError, OutputError, Cancelled
    """
    options = options or PrepareOptions()
    out = Path(out).expanduser().absolute()
    with replacing_folder(out) as folder:
        items, unpaired, left_out = find_pairs(Path(lr), Path(hr), options.patient_pattern)
        made, failed = _made(items, folder / "pairs", options, progress, cancelled)
        if not made:
            raise InputError(
                f"All {len(items)} pairs failed. {items[0].name}: {failed[0]['what']}", failed[0]["advice"]
            )

        items = [item for item in items if item.name in made]
        sets = split_patients([item.patient for item in items], options.val_share, options.seed)
        for item in items:
            _sort_in(folder, item.name, sets[item.patient])
        shutil.rmtree(folder / "pairs")
        pairs = [_summary(item, sets[item.patient], made[item.name]) for item in items]
        warnings = [*left_out, *(f"{failure['name']} failed: {failure['what']}" for failure in failed)]
        if unpaired:
            warnings.append(f"{len(unpaired)} scans have no partner, for instance {Path(unpaired[0]).name}.")
        if "val" not in sets.values():
            warnings.append("There is nothing to validate with: only one patient, or a val_share of 0.")
        report = {
            "pairs": pairs,
            "failed": failed,
            "unpaired": unpaired,
            "patients": sets,
            "warnings": warnings,
            "options": options.to_json(),
        }
        write_json(folder / REPORT, report)
        write_json(folder / DATASETS, _datasets(pairs, made, out, options.format))
    part_of(progress, 0, 1)(1.0, "Done")
    return report


def _made(
    items: Sequence[Item],
    folder: Path,
    options: PrepareOptions,
    progress: Report | None,
    cancelled: Callable[[], bool] | None,
) -> tuple[dict[str, dict], list[dict]]:
    """Prepare each pair in a folder of its own; reports of those that succeeded, by name, and what failed of others."""
    made, failed = {}, []
    for number, item in enumerate(items):
        stop_if(cancelled)
        step = part_of(progress, number / len(items), (number + 1) / len(items))
        target = folder / item.name
        target.mkdir(parents=True)
        initial = options.initial
        if initial is not None and Path(initial).is_dir():
            files = [Path(initial) / f"{item.name}{suffix}" for suffix in _TRANSFORMS]
            initial = next((str(file) for file in files if file.is_file()), None)
        try:
            made[item.name] = write_pair(
                item.lr,
                item.hr,
                target,
                replace(options, initial=initial),
                item.name,
                lambda fraction, message, step=step, item=item: step(fraction, f"{item.name}: {message}"),
                cancelled,
            )
        except InputError as error:
            failed.append({"name": item.name, "what": error.what, "advice": error.advice})
            shutil.rmtree(target)
    return made, failed


def _summary(item: Item, target: str, report: dict) -> dict:
    """What the report of all says of one pair."""
    return {
        "name": item.name,
        "patient": item.patient,
        "set": target,
        "slices": report["region"]["hr_size"][2],
        "median_mm": report["alignment"]["median_mm"],
        "p95_mm": report["alignment"]["p95_mm"],
        "window_hr": report["window_hr"],
        "window_lr": report["window_lr"],
        "hr_spacing_mm": report["region"]["hr_spacing_mm"],
        "warnings": report["warnings"],
    }


def find_pairs(lr: Path, hr: Path, patient_pattern: str | None = None) -> tuple[list[Item], list[str], list[str]]:
    """The pairs of two folders in the order of their names, the scans that have no partner, and what was left out.

    Raises
    ------
    InputError
        If there are none, or two scans of a folder have one name.
    OptionError
        If the patient pattern is not found in a name.
    """
    (coarse, left_out), (fine, more) = _scans_by_name(lr), _scans_by_name(hr)
    names = sorted(set(coarse) & set(fine))
    unpaired = sorted(str(side[name]) for side in (coarse, fine) for name in side if name not in names)
    if not names:
        raise InputError(
            f"No scan of {lr} has the name of a scan of {hr}.",
            "Give the scans of a pair the same name, apart from LR and HR.",
        )
    items = []
    for name in names:
        title = safe_name(_SIDE.sub("", scan_name(fine[name])))
        items.append(Item(title, patient_of(title, patient_pattern), coarse[name], fine[name]))
    return items, unpaired, [*left_out, *more]


def patient_of(name: str, pattern: str | None) -> str:
    """The patient that a name tells: see `PrepareOptions.patient_pattern`."""
    if not pattern:
        return name
    match = re.search(pattern, name)
    if match is None:
        raise OptionError(
            f"The patient pattern {pattern!r} is not found in {name}.", r"Give one that fits every name, as '^(P\d+)'."
        )
    return match.group(1) if match.groups() else match.group(0)


def split_patients(patients: Sequence[str], share: float, seed: int) -> dict[str, str]:
    """ "train" or "val" for each patient.

    Patients are ordered by a hash of seed and name, and the first `share` of them validate: at least one if there are
    two and the share is not 0, and never all. A patient who is added later moves at most one of the others.
    """
    ordered = sorted(set(patients), key=lambda p: hashlib.sha256(f"{seed} {p}".encode()).digest())
    number = min(len(ordered) - 1, max(1, round(share * len(ordered)))) if share > 0 else 0
    return {patient: SETS[place < number] for place, patient in enumerate(ordered)}


def _scans_by_name(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The scans of a folder by their names without LR and HR, and sentences that name what was left out."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Give a folder of scans for LR and one for HR.")
    scans, left_out = scans_in(folder)
    sentences = [f"{folder.name}: {sentence}" for sentence in told(left_out, folder)]
    if not scans:
        raise InputError(
            " ".join([f"{folder} holds no scans.", *sentences]),
            "Give a folder of volume files, or of folders of DICOM files.",
        )
    found: dict[str, Path] = {}
    for path in scans:
        name = safe_name(_SIDE.sub("", scan_name(path))).casefold()
        if name in found:
            raise InputError(f"{found[name].name} and {path.name} have the same name.", "Rename or remove one.")
        found[name] = path
    return found, sentences


def _sort_in(folder: Path, name: str, target: str) -> None:
    """Move a pair's images to the others of its set, and what tells of it into reports/."""
    source = folder / "pairs" / name
    for side in ("HR", "LR"):
        (folder / target / side).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / side).iterdir()):
            os.replace(path, folder / target / side / path.name)
    told = folder / "reports" / name
    told.mkdir(parents=True)
    for file in (REPORT, PICTURE, TRANSFORM):
        os.replace(source / file, told / file)


def _datasets(pairs: Sequence[dict], made: Mapping[str, dict], out: Path, form: str) -> dict:
    """`datasets` of a training's options."""
    found = {}
    for name in SETS:
        files = [file for pair in pairs if pair["set"] == name for file in made[pair["name"]]["files"]]
        if files:
            folders = [out / name / side for side in ("HR", "LR")]
            roots = [[str(f / file) for file in files] if form == "nrrd" else str(f) for f in folders]
            window = _common_window(pairs) if name == "train" else None
            found[name] = dataset(name.upper(), *roots, window)
    return found


def _common_window(pairs: Sequence[dict]) -> list[float] | None:
    """The window of all LR scans; None where those of two differ by more than `_SAME_WINDOW` of their width."""
    windows = np.array([pair["window_lr"] for pair in pairs if pair["set"] == "train"], np.float64)
    width = np.diff(windows, axis=1).mean()
    if np.ptp(windows, axis=0).max() > _SAME_WINDOW * width:
        return None
    return windows.mean(0).tolist()

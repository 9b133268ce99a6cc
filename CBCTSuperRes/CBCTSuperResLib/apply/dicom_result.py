"""A super-resolved volume as a DICOM series, for programs that read nothing else. Worker-side: needs pydicom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import NOTICE, __version__
from ..core.errors import OutputError
from ..core.progress import Report
from ..core.volume import Grid, Volume
from ..io.dicom_write import (
    SOFTWARE,
    Derivation,
    DicomSource,
    check_dicom_output,
    patient_of,
    source_of,
    write_dicom,
    write_images,
)
from ..io.images import allocate


def export_dicom(
    result: Volume,
    folder: str | Path,
    scan: str | Path | None = None,
    *,
    series: str | None = None,
    spacing: Sequence[float] | None = None,
    patient_name: str | None = None,
    patient_id: str | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Write a result as a derived DICOM series; the folder appears whole or not at all.

    Parameters
    ----------
    result : Volume
        Of `super_resolve`, or read from a file, with its account as `report`.
    folder : path
        To be made.
    scan : path, optional
        What it was made of. If that is DICOM, the series belongs to its patient, study and frame of reference.
    series, spacing : optional
        As the scan was read.
    patient_name, patient_id : str, optional
        Where the scan does not tell them.

    Returns
    -------
    dict
        See `write_dicom`.

    Raises
    ------
    SuperResError
        No file is left then.
    """
    source = source_of(Path(scan), series, spacing) if scan else None
    patient = patient_of(source, patient_name, patient_id)
    return write_dicom(result, Path(folder), derivation_of(result.report), patient, source, progress, cancelled)


def derivation_of(report: dict) -> Derivation:
    """What a series says of how it was made, out of the account of a run (`make_report`)."""
    factors = [f"{factor:g}" for factor in report["scale"]]
    in_slices = report["planes"] == "axial" and factors[0] == factors[1]
    scale = f"x{factors[0]}" if in_slices or len(set(factors)) == 1 else " x ".join(factors)
    way = {"axial": "within the slices", "blocks": "in blocks"}.get(report["planes"], "along all axes")
    low, high = report["window"] if report.get("output_window") is None else report["output_window"]
    return Derivation(
        description=(
            f"Super-resolution {scale} {way} by the model {report['model']} (network {report['network']}, SHA-256 of "
            f"the weights {report['model_sha256']}). {NOTICE} {SOFTWARE} {__version__}."
        ),
        label=f"SR {scale} (detail is predicted)",
        window=(low, high),
        version=__version__,
    )


class DicomOutput:
    """A result that becomes a folder of DICOM images; the counterpart of `FileOutput`.

    Attributes
    ----------
    announcement : Path
        The folder.
    written : dict
        See `write_images`.
    """

    def __init__(
        self,
        folder: Path,
        source: DicomSource | None,
        patient: dict[str, str],
        progress: Report,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.announcement, self._source, self._patient = folder, source, patient
        self._progress, self._cancelled = progress, cancelled
        self.allocate = allocate
        self.written: dict = {}

    def __enter__(self) -> DicomOutput:
        return self

    def __exit__(self, *_) -> None:
        """Nothing is open, and nothing of the folder is there before it is whole."""

    def write(self, volume: Volume, scratch: Path) -> None:
        """Write what will be renamed to `announcement`."""
        derivation = derivation_of(volume.report)
        self.written = write_images(
            volume, scratch, derivation, self._patient, self._source, self._progress, self._cancelled
        )

    def keep(self) -> None:
        """Nothing of it would be removed."""


def check_place(folder: Path, grid: Grid, scan: Path) -> None:
    """Refuse a folder that cannot become the result, before anything is computed.

    Raises
    ------
    OutputError, ResourceError
    """
    check_dicom_output(folder, grid)
    inside = scan.resolve() if scan.is_dir() else scan.resolve().parent
    if folder.resolve() == inside:
        raise OutputError("The output would lie among the input slices.", "Choose another folder.")

"""The arguments that decide how scans are super-resolved, of `apply`, `info` and `batch`, and what they come to."""

from __future__ import annotations

import argparse
from dataclasses import fields

from ..core.errors import OptionError
from ..core.options import (
    BACK_PROJECTION,
    BONE,
    CUBIC,
    ENGINES,
    ENSEMBLES,
    PLANES,
    PRECISIONS,
    USUAL_PASSES,
    WARNING,
    WIDEST,
    Options,
    marks_bone,
)
from ..scan.window import PRESETS, Window
from .terminal import blank_value


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Add everything that decides how a scan is super-resolved; `options_from_arguments` reads it back."""
    what = parser.add_argument_group("model and grey values")
    what.add_argument(
        "--model",
        metavar="M",
        help="name or file of a model (default: the scan chooses: light, or what the size asked for or its blur needs)",
    )
    window = what.add_mutually_exclusive_group()
    window.add_argument(
        "--window",
        nargs="+",
        action=WindowAction,
        metavar=("LO", "HI"),
        help='normalisation range: two grey values, "auto" or "model" (default: the model\'s if the scan fits it)',
    )
    presets = "; ".join(f"{name}: {preset.title}" for name, preset in PRESETS.items())
    window.add_argument("--preset", choices=PRESETS, metavar="NAME", help=f"normalisation range by name ({presets})")
    what.add_argument(
        "--blank", type=blank_value, default="auto", metavar="auto|none|VALUE", help="what is blank region"
    )
    what.add_argument("--smooth", type=float, metavar="SIGMA", help="mild Gaussian before the network, in pixels")

    where = parser.add_argument_group("result")
    where.add_argument("--planes", choices=PLANES, default="axial", help="enlarge in the slice plane or in all axes")
    where.add_argument(
        "--scale",
        type=_scale,
        metavar="S",
        help="factor, for models of any real scale; or I J K along each axis; 1: same size, less noise",
    )
    where.add_argument(
        "--output-spacing",
        type=_spacing,
        metavar="MM",
        help=f'voxel size of the result in mm; or X Y Z along each axis; or "{CUBIC}", as fine as the finest axis',
    )
    where.add_argument(
        "--roi", type=int, nargs=6, metavar=("I0", "I1", "J0", "J1", "K0", "K1"), help="box of input voxels, half-open"
    )
    where.add_argument("--dtype", metavar="TYPE", help="type of the output, for instance int16 (default: the input's)")
    where.add_argument("--compress", action="store_true", help="compress the output file")

    scanner = parser.add_argument_group("scanner")
    scanner.add_argument(
        "--scanner-blur",
        type=_blur,
        metavar="auto|MM",
        help="blur of the scanner, full width at half maximum in mm, or I,J,K along each axis (default: auto, "
        "estimated from the scan)",
    )
    scanner.add_argument(
        "--sharpness",
        type=float,
        default=100.0,
        metavar="PERCENT",
        help="how far to go from interpolation, 0, towards the model's answer, 100 (default)",
    )

    scanner.add_argument(
        "--back-projection",
        choices=BACK_PROJECTION,
        default="auto",
        help="correct what contradicts the scan by more than its noise (default: auto, where the blur is sure)",
    )

    how = parser.add_argument_group("computing")
    how.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N; or several that share a volume: cuda:0,1,3 or cuda:all, or cpu,cpu for two "
        "processes with half of the cores each",
    )
    how.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="arithmetic of the network; auto takes 16 bits where a part of the scan shows that nothing is lost",
    )
    how.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="what computes the network (default: auto, the one that `cbct-superres engines` found to be the fastest "
        "here, else PyTorch); others compute on the CPU",
    )
    how.add_argument(
        "--ensemble",
        type=int,
        choices=ENSEMBLES,
        default=1,
        metavar="N",
        help="average the results over 1, 2, 4 or 8 flips and rotations: less noise, N times the time",
    )
    how.add_argument(
        "--uncertainty",
        type=int,
        nargs="?",
        const=USUAL_PASSES,
        default=0,
        metavar="N",
        help="also measure how sure the result is: the error bars of a model that tells its own (of N draws, "
        f"{USUAL_PASSES} if no number is given, where it draws), or by N more passes where the model disagrees with "
        "itself; written beside the output",
    )
    how.add_argument(
        "--warning-above",
        type=_warning_above,
        default=WARNING,
        metavar="SHARE",
        help="predictive deviation, as a share of the window, above which the warning mask of a model with error bars "
        f"marks voxels (default: {WARNING}); {WIDEST}: where the widest twentieth of this scan's are; {BONE}, or "
        f"{BONE}=GREY: the twentieth likeliest to lie on the other side of bone's threshold, Otsu's or a grey value",
    )
    how.add_argument(
        "--disagreement-above",
        type=float,
        metavar="GREY",
        help="also write a mask of the voxels whose model disagreement is larger than so many grey values",
    )
    how.add_argument("--tile", type=int, metavar="N", help="edge of a tile in input voxels; 0 for whole slices")

    scan = parser.add_argument_group("reading")
    scan.add_argument(
        "--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help="voxel spacing in mm, where none is recorded"
    )
    scan.add_argument("--override", action="store_true", help="believe --spacing where the file records another one")
    scan.add_argument("--series", metavar="UID", help="series to read from a DICOM folder that holds several")


def add_dicom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what makes results DICOM; `dicom_from_arguments` reads it back."""
    dicom = parser.add_argument_group("DICOM")
    dicom.add_argument("--format", choices=("dicom",), help="make each output a folder with a derived DICOM series")
    dicom.add_argument("--patient-name", metavar="NAME", help="where the scan does not tell it")
    dicom.add_argument("--patient-id", metavar="ID", help="where the scan does not tell it")


def dicom_from_arguments(arguments: argparse.Namespace) -> dict:
    """The arguments `as_dicom`, `patient_name` and `patient_id` of `apply_to_file`.

    Raises
    ------
    OptionError
        If a patient is named for a result that holds none.
    """
    if arguments.format is None and (arguments.patient_name or arguments.patient_id):
        raise OptionError("Only DICOM holds a patient's name and ID.", "Add --format dicom, or leave them out.")
    patient = {"patient_name": arguments.patient_name, "patient_id": arguments.patient_id}
    return {"as_dicom": arguments.format == "dicom", **patient}


def options_from_arguments(arguments: argparse.Namespace) -> Options:
    """The options of a parsed command line.

    Raises
    ------
    OptionError
        If a value makes no sense.
    """
    values = {f.name: getattr(arguments, f.name) for f in fields(Options) if hasattr(arguments, f.name)}
    if isinstance(arguments.window, tuple):
        Window(*arguments.window)  # refuses what is no range
    values["window"] = arguments.preset or arguments.window
    values["roi"] = box_from_numbers(arguments.roi)
    return Options(**values)


class WindowAction(argparse.Action):
    """Accepts `auto`, `model`, or two numbers."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        if len(values) == 1 and values[0] in ("auto", "model"):
            setattr(namespace, self.dest, values[0])
            return
        try:
            low, high = map(float, values)
        except ValueError:
            parser.error('--window takes two grey values, "auto" or "model"')
        setattr(namespace, self.dest, (low, high))


def _warning_above(text: str) -> float | str:
    try:
        return text if text == WIDEST or marks_bone(text) else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a share of the window nor {WIDEST}, {BONE} or {BONE}=GREY"
        ) from None


def _blur(text: str) -> float | tuple[float, ...] | None:
    if text == "auto":
        return None
    return _one_or_three(text, 'neither "auto", a width in mm nor three of them, as in .3,.3,.4')


def _scale(text: str) -> float | tuple[float, ...]:
    return _one_or_three(text, "neither a factor nor three of them, as in 1,1,2.2")


def _spacing(text: str) -> float | tuple[float, ...] | str:
    if text == CUBIC:
        return text
    return _one_or_three(text, f'neither a size in mm, nor three of them, as in .2,.2,.3, nor "{CUBIC}"')


def _one_or_three(text: str, otherwise: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is {otherwise}")
    return numbers[0] if len(numbers) == 1 else numbers


def box_from_numbers(numbers: list[int] | None) -> tuple | None:
    """Ranges along (i, j, k) from six numbers.

    Raises
    ------
    OptionError
        If one is empty.
    """
    if numbers is None:
        return None
    box = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if any(start < 0 or start >= stop for start, stop in box):
        raise OptionError(f"The box {numbers} is empty.", "Give I0 I1 J0 J1 K0 K1 with each first below its second.")
    return box

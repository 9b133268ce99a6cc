"""What a model file says about itself, read without torch.

A model file is a safetensors file: the weights, and among the metadata of its header the model card as JSON. The card
tells what the network is, how grey values are brought to it, what it was trained on, how good it was found to be and
where its limits are. Two hashes guard against damage and edits by hand; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path

import numpy as np

from ..core.errors import ModelError
from ..core.volume import across_slices, as_acquired
from ..networks.spec import NetworkSpec
from ..scan.tissue import TissueLevels
from .header import (
    IMPORT_ADVICE,
    Header,
    read_header,
    weights_digest,
)
from .intervals import Intervals

CARD_KEY = "cbct_superres_card"
CARD_HASH_KEY = "cbct_superres_card_sha256"
USUAL_BLUR, MOST_BLUR = 0.425, 5.0  # input voxels; more is no scanner's
FAST, SLOW = 5e6, 5e7  # operations for one voxel of a scan: some 3 or 30 s for a slice of 400 x 400 on eight cores
FORMAT = 2  # 1: that of version 0.1.0, whose `NetworkSpec` was another


@dataclass(frozen=True)
class ModelCard:
    """Description of a model.

    Attributes
    ----------
    name : str
        Short name by which the model is chosen.
    title, summary, licence, limits : str
        For people: one line, a few sentences, a licence's name, what the model must not be used for.
    spec : NetworkSpec
        The network.
    window : (lo, hi) or None
        Grey values that the training data was normalised with.
    levels : TissueLevels or None
        Air, soft tissue and bone in units of that window.
    output_window : (lo, hi) or None
        Grey values of the output's 0 and 1, where the network leads into another domain (`spec.domain`).
    smooth : float
        Standard deviation, in pixels, of the Gaussian that the training data was smoothed with.
    voxel_size_mm : (min, max) or None
        Voxel sizes of the low-resolution training data.
    training : dict
        What it was trained on and how; free, JSON.
    results : list of dict
        Measured results; each names the data, the measure, the model's value and that of cubic interpolation.
    intervals : dict
        How the model's error bars become intervals that hold, and for which scans, see `models.intervals`; empty if it
        has none or they were never calibrated.
    created_with : str
        Program and version that wrote the file.
    self_check : dict
        Statistics of the network's outputs for a fixed input, recorded when the file was written.
    weights_sha256 : str
        Hash of the weights, see `header.weights_digest`; "" before the model was saved.
    path : Path or None
        The file that the card was read from; not stored in it.
    """

    name: str
    spec: NetworkSpec
    title: str = ""
    summary: str = ""
    licence: str = "unknown"
    window: tuple[float, float] | None = None
    levels: TissueLevels | None = None
    output_window: tuple[float, float] | None = None
    smooth: float = 0.0
    voxel_size_mm: tuple[float, float] | None = None
    training: dict = field(default_factory=dict)
    results: list[dict] = field(default_factory=list)
    limits: str = ""
    intervals: dict = field(default_factory=dict)
    created_with: str = ""
    self_check: dict = field(default_factory=dict)
    weights_sha256: str = ""
    path: Path | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ModelError(f"The model card is not valid: {problem}.")

    @property
    def line(self) -> str:
        """One line for lists."""
        facts = [f"{self.spec.scale_text} in {'slices' if self.spec.dimensions == 2 else 'blocks'}", self.spec.network]
        if self.voxel_size_mm:
            facts.append("trained for {:g}-{:g} mm".format(*self.voxel_size_mm))
        return f"{self.name}: {self.title or 'no title'} ({', '.join([*facts, f'license {self.licence}'])})"

    @property
    def label(self) -> str:
        """A few words for lists that people choose from: "Light (fast, x2)"; words are spelled as in the title."""
        spec = self.spec
        cost = spec.flops_per_voxel(spec.scale or [largest for _, largest in spec.scale_range])
        pace = ["fast"] if 0 < cost < FAST else ["slow"] if cost > SLOW else []
        factor = spec.scale_text if spec.dimensions == 2 else f"{spec.scale_text} in all axes"
        spelled = {word.lower(): word for word in re.findall(r"\w+", self.title)}
        name = re.sub(r"[^\W_]+", lambda word: spelled.get(word[0].lower(), word[0]), self.name)
        return f"{name[:1].upper()}{name[1:]} ({', '.join([*pace, factor])})"

    def across(self, spacing: Sequence[float] | None) -> int:
        """Which axis of a scan, 0 to 2 of (k, j, i), is the one across the slices to a network of blocks.

        A network that offers other factors across slices than within them is shown the scan as it was acquired, see
        `core.volume.across_slices`.

        Parameters
        ----------
        spacing : (i, j, k) or None
            Of the scan, in mm; without it, k is across.
        """
        is_uneven = self.spec.dimensions == 3 and len(set(self.spec.scale_range or ())) > 1
        return across_slices(spacing) if is_uneven and spacing is not None else 0

    def factors(self, planes: str = "axial", spacing: Sequence[float] | None = None) -> list[tuple[float, float]]:
        """Smallest and largest factor along (i, j, k) that the model offers; `planes` is as in `Options`.

        A 2-D network leaves the slices' distance as it is, unless it works in three planes. `spacing`, of a scan, is as
        in `across`.
        """
        spec = self.spec
        ranges = [(factor, factor) for factor in spec.scale] if spec.scale else list(spec.scale_range)
        if spec.dimensions == 3:
            return as_acquired(ranges, self.across(spacing))[::-1]
        in_plane = ranges[::-1]
        return [*in_plane, in_plane[0] if planes == "isotropic" else (1.0, 1.0)]

    def offered(
        self,
        asked: float | tuple[float, float, float] | None,
        planes: str = "axial",
        spacing: Sequence[float] | None = None,
    ) -> tuple[float, float, float] | None:
        """The factors along (i, j, k) that are meant by what is asked for; None if the model does not offer them.

        Parameters
        ----------
        asked : float, three of them, or None
            One number stands for all axes that the model enlarges; None for the factors nearest to 2 that it offers.
        planes, spacing
            As of `factors`.
        """
        ranges = self.factors(planes, spacing)
        if asked is None:
            return tuple(float(min(max(2.0, lowest), highest)) for lowest, highest in ranges)
        if not isinstance(asked, tuple):
            asked = tuple(1.0 if pair == (1.0, 1.0) and axis == 2 else asked for axis, pair in enumerate(ranges))
        nearest = tuple(
            float(min(max(factor, lowest), highest)) for factor, (lowest, highest) in zip(asked, ranges, strict=True)
        )
        return nearest if np.allclose(nearest, asked, rtol=1e-6, atol=0) else None

    def factors_text(self, planes: str = "axial") -> str:
        """ "2 in slices", "1 to 4", "1 x 1 x 1 to 4 x 4 x 6"; `planes` is as in `Options`."""
        lowest, highest = (factors_text(ends) for ends in zip(*self.factors(planes), strict=True))
        text = lowest if lowest == highest else f"{lowest} to {highest}"
        return text + (" in slices" if self.spec.dimensions == 2 and planes == "axial" else "")

    @property
    def tells_errors(self) -> bool:
        """Whether the network tells how far it may be off: by a log-variance, or by draws."""
        return self.spec.stochastic or "log_variance" in self.spec.outputs.values()

    @property
    def error_bars(self) -> str:
        """In words: what its error bars were calibrated on, and where they do not hold; "" if it has none."""
        if not self.tells_errors:
            return ""
        if not self.intervals:
            return "Never calibrated: they need not hold."
        found = Intervals.from_json(self.intervals)
        return (
            f"90 % intervals, calibrated on {found.made_on}, with blur of {found.blur[0]:.2g} to {found.blur[-1]:.2g} "
            f"voxels (standard deviation) and noise of {found.noise[0]:.1%} to {found.noise[-1]:.1%} of the window. "
            "Outside of these they do not hold."
        )

    @property
    def usual_conditions(self) -> tuple[float, float]:
        """Blur, in input voxels, and noise, in units of the window, that the training's scans had most likely.

        Standard deviations; `USUAL_BLUR` and no noise where the card does not tell.
        """
        try:
            scanner = self.training["data"]["degradation"]
            pixels = 1 if scanner.get("kind") == "block" else 2  # a voxel has two of the others' fine pixels
            low, *mode, high = (float(width) / pixels for width in scanner["blur"])
            usual = mode[0] if mode else min(max(USUAL_BLUR, low), high)  # a range without a mode tells no usual one
            return usual, sum(map(float, scanner["noise"])) / 2
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return USUAL_BLUR, 0.0

    @property
    def trained_blur(self) -> tuple[float, float] | None:
        """Weakest and strongest blur, in input voxels, of the training's scans; None if the card tells none."""
        try:
            scanner = self.training["data"]["degradation"]
            pixels = 1 if scanner.get("kind") == "block" else 2
            ends = float(scanner["blur"][0]) / pixels, float(scanner["blur"][-1]) / pixels
            return ends if 0 <= ends[0] <= ends[1] <= MOST_BLUR else None
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return None

    @property
    def strongest_noise(self) -> float | None:
        """Strongest noise, in units of the window, of the training's scans; None if the card does not tell."""
        try:
            scanner = self.training["data"]["degradation"]
            strong = scanner["strong_noise"][1] if scanner.get("strong_share", 0) > 0 else 0.0
            return max(float(scanner["noise"][1]), float(strong))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return None

    def to_json(self) -> dict:
        """Everything but the path, for `json.dumps`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "path"}
        values["spec"] = self.spec.to_json()
        values["levels"] = asdict(self.levels) if self.levels else None
        return {"format": FORMAT, **values}

    @staticmethod
    def from_json(values: object, path: Path | None = None) -> ModelCard:
        """Rebuild from JSON; keys that this version does not know are ignored.

        Raises
        ------
        ModelError
            If a required entry is missing or one has the wrong type.
        """
        if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
            raise ModelError("The model card is not valid: it has no network specification.")
        if values.get("format", FORMAT) not in range(1, FORMAT + 1):
            raise ModelError("The model card was written by a newer version of this program.", "Update the program.")
        known = {f.name for f in fields(ModelCard)} - {"path"}
        values = {key: value for key, value in values.items() if key in known}
        try:
            spec = NetworkSpec.from_json(values.pop("spec"))
            levels = values.pop("levels", None)
            levels = TissueLevels(**{key: float(value) for key, value in levels.items()}) if levels else None
            for key in ("window", "output_window", "voxel_size_mm"):
                if values.get(key) is not None:
                    values[key] = tuple(float(number) for number in values[key])
            return ModelCard(spec=spec, levels=levels, path=path, **values)
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"The model card is not valid: {error}.") from None

    def dumps(self) -> str:
        """The text that is stored in the file, always the same for the same card."""
        return json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True, allow_nan=False)

    def to_metadata(self) -> dict[str, str]:
        """Metadata of the safetensors header."""
        text = self.dumps()
        return {CARD_KEY: text, CARD_HASH_KEY: _text_digest(text), "format": "pt"}

    def _problem(self) -> str:
        for name in ("name", "title", "summary", "licence", "limits", "created_with", "weights_sha256"):
            if not isinstance(getattr(self, name), str):
                return f"{name} is not a text"
        if not self.name.strip():
            return "it has no name"
        for name in ("window", "output_window", "voxel_size_mm"):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and all(map(isfinite, pair)) and pair[0] <= pair[1]):
                return f"{name} is not a pair of ascending numbers"
        for name in ("window", "output_window"):
            if getattr(self, name) is not None and getattr(self, name)[0] == getattr(self, name)[1]:
                return f"{name} is empty"
        if (self.output_window is None) is (self.spec.domain == "other"):
            return "output_window and the domain of the network's output do not fit"
        if isinstance(self.smooth, bool) or not isinstance(self.smooth, int | float) or not 0 <= self.smooth <= 5:
            return "smooth is not a number of pixels from 0 to 5"
        if not isinstance(self.training, dict) or not isinstance(self.self_check, dict):
            return "training and self_check must be tables"
        if not isinstance(self.intervals, dict):
            return "intervals is not a table"
        if self.intervals:
            try:
                Intervals.from_json(self.intervals)
            except ValueError as error:
                return str(error)
        if not isinstance(self.results, list) or not all(isinstance(result, dict) for result in self.results):
            return "results is not a list of tables"
        return ""


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model file and check the file's layout; the weights are not read.

    Raises
    ------
    ModelError
        If the file is missing, damaged, of another kind, has no card, or the card was edited by hand.
    """
    return card_of(read_header(path), Path(path))


def card_of(header: Header, path: Path) -> ModelCard:
    """The card within a header that was read from `path`."""
    text = header.metadata.get(CARD_KEY)
    if text is None:
        raise ModelError(f"{path} holds weights but no model card.", IMPORT_ADVICE)
    if header.metadata.get(CARD_HASH_KEY, "") != _text_digest(text):
        raise ModelError(
            f"The model card of {path} was changed after the model was saved.",
            "Get the original file again, or change the card with Model.load and Model.save.",
        )
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"The model card of {path} cannot be read.") from None
    try:
        card = ModelCard.from_json(values, path)
    except ModelError as error:
        raise ModelError(f"{path}: {error.what}", error.advice) from None
    if not card.weights_sha256:
        raise ModelError(f"The model card of {path} has no hash of the weights.", "Save the model again.")
    return card


def verify_weights(path: str | Path) -> ModelCard:
    """Read the whole file and compare its weights with the hash in its card.

    Raises
    ------
    ModelError
        If they differ: the file is damaged or was tampered with.
    """
    header = read_header(path)
    card = card_of(header, Path(path))
    if weights_digest(path, header) != card.weights_sha256:
        raise ModelError(f"The weights in {path} are not those that were saved.", "Get the original file again.")
    return card


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def factors_text(factors: float | Sequence[float], between: str = " x ", form: str = ".4g") -> str:
    """ "2", or "2 x 2 x 3" where the axes differ; an axis that is not enlarged at the end is not named."""
    factors = [*np.broadcast_to(factors, 3)]
    factors = factors[:2] if factors[2] == 1 and len(set(factors[:2])) == 1 else factors
    return f"{factors[0]:{form}}" if len(set(factors)) == 1 else between.join(f"{f:{form}}" for f in factors)

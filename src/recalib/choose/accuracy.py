"""Accuracies that networks are chosen by, where each comes from, and how sure it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recalib.choose import published
from recalib.errors import RecalibError
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.sizes import sides
from recalib.measure.statistics import FALSE_DISCOVERIES
from recalib.statistics import half_width_of

Origin = Literal["measured", "own", "published"]
VALIDATION_IMAGES = 50_000  # of ImageNet, on which every published accuracy here was measured
PUBLISHED_SIDE = 224  # pixels, likewise
AGREES = 98.0  # % of images: a reduced precision that agrees with float32 on fewer is another network
_CIFAR_TEST_IMAGES = {"cifar10": 10_000, "cifar100": 10_000}  # of runs that recorded no number


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of a network in percent.

    Attributes:
        top1: the figure.
        error: half of its 95 % interval, in points; infinite where nothing tells.
        origin: whose it is, and how it came about.
        kind: what sort of figure it is; those of different kinds are never compared with each other.
        caveat: what a reader has to know before using it here; empty for nothing.
    """

    top1: float
    error: float
    origin: str
    kind: Origin = "published"
    caveat: str = ""

    @property
    def own(self) -> bool:
        """True if the user trained it."""
        return self.kind == "own"


def published_accuracy(model: str, module: str) -> Accuracy | None:
    """A network's published top-1 on one axis for all: torchvision's plain network, plus the module's gain.

    Recipes move accuracy by more than modules do, so figures of several sources are not comparable; gains within a
    source are. The source of the gain is `published.best_source` of the model and module.
    """
    plain = published.accuracy(model, BASELINE, published.ladder())
    if plain is None:
        return None
    error = sampling_error(plain.top1, VALIDATION_IMAGES)
    if module == BASELINE:
        return Accuracy(plain.top1, error, f"published, {plain.source.label}")
    source = published.best_source(model, [module])
    gain = published.gain(model, module, source) if source else None
    if source is None or gain is None:
        return None
    return Accuracy(plain.top1 + gain, error, f"published, {plain.source.label} {gain:+.2f} of {source.label}")


def measured_accuracy(cell: Cell) -> Accuracy | None:
    """The accuracy of the very network, runtime and precision of a cell, where it was measured."""
    found = cell.accuracy or cell.agreement or {}
    if "top1" not in found or found.get("weights", "checkpoint") == "random":
        return None
    top1, images = float(found["top1"]), int(found["images"])
    origin = f"measured in {cell.runtime}, {cell.precision}, on {images} {found['source']}"
    low, high = found.get("top1_interval", [top1 - sampling_error(top1, images), top1 + sampling_error(top1, images)])
    return Accuracy(top1, (high - low) / 2, origin, "measured")


@dataclass(frozen=True)
class Evaluated:
    """One file, exported or deployed, that was timed and evaluated.

    Attributes:
        cell: its time, and in ``accuracy`` its top-1, see `recalib.measure.agreement.Judge.accuracy`.
        differs: whether it classifies otherwise than the network in PyTorch and float32, by McNemar's test, corrected
            over all files that were evaluated together (Benjamini-Hochberg).
    """

    cell: Cell
    differs: bool

    @property
    def found(self) -> Mapping[str, Any]:
        """Its accuracy, in JSON's types."""
        return self.cell.accuracy or {}

    @property
    def top1(self) -> str:
        """Top-1 and its 95 % interval in percent, such as `91.70 [90.3, 92.9]`."""
        low, high = self.found["top1_interval"]
        return f"{self.found['top1']:.2f} [{low:.1f}, {high:.1f}]"

    @property
    def change(self) -> str:
        """Points over PyTorch in float32, and how many images only the one and only the other classified rightly."""
        points = self.found["top1"] - self.found["top1_fp32"] + 0.0
        return f"{points:+.2f} (+{self.found['only_here']} -{self.found['only_fp32']})"

    def __str__(self) -> str:
        cell, found = self.cell, self.found
        form = "deployed" if cell.deployed else "as inserted"
        told = "which it differs from" if self.differs else "which it cannot be told from"
        return (
            f"The file of {cell.model}{'' if cell.module == BASELINE else f' with {cell.module}'} in {cell.runtime}, "
            f"{cell.precision}, {form}: top-1 {self.top1} % of {found['images']} {found['source']}; PyTorch in float32 "
            f"{found['top1_fp32']:.2f} %, {told} (McNemar's test, p = {found['p']:.2g})"
        )


def evaluated(cells: Sequence[Cell]) -> list[Evaluated]:
    """The cells whose very files were evaluated, in their order; none where no labelled images were given."""
    from scipy.stats import false_discovery_control

    judged = [cell for cell in cells if cell.status == "ok" and cell.accuracy]
    if not judged:
        return []
    corrected = false_discovery_control([float((cell.accuracy or {})["p"]) for cell in judged])
    return [Evaluated(cell, bool(p <= FALSE_DISCOVERIES)) for cell, p in zip(judged, corrected, strict=True)]


def published_for(cell: Cell) -> Accuracy | str | None:
    """A published accuracy as far as it holds for a cell's setting.

    Returns:
        The accuracy, with a caveat at another resolution or precision; a reason why it does not hold, for a reduced
        precision that was not found to agree with float32; None where nothing is published.
    """
    known = published_accuracy(cell.model, cell.module)
    if known is None:
        return None
    caveats = []
    if sides(cell.size) != (PUBLISHED_SIDE, PUBLISHED_SIDE):
        caveats.append(f"it was published for {PUBLISHED_SIDE} px, and this is {_by(cell.size)} px")
    if cell.precision not in ("fp32", "tf32"):
        told = cell.agreement or {}
        if not told or told.get("weights") != "checkpoint" or told.get("source") == "noise":
            return f"how far {cell.precision} is from float32 was not measured on trained weights and images"
        agrees = float(told["top1_agreement"])
        if agrees < AGREES:
            return f"{cell.precision} agrees with float32 on {agrees:.1f} % of images only"
        caveats.append(f"it was published for float32, with which {cell.precision} agrees on {agrees:.1f} % of images")
    return Accuracy(known.top1, known.error, known.origin, "published", "; ".join(caveats))


def sampling_error(percent: float, images: int) -> float:
    """Half of the 95 % interval of an accuracy measured on so many images (normal approximation), in points."""
    share = percent / 100
    return 100 * 1.96 * math.sqrt(share * (1 - share) / images)


def own_accuracies(run: Path) -> dict[tuple[str, str], Accuracy]:
    """Top-1 of finished runs of one recipe that differ in model, attention and seed only.

    Its uncertainty is the larger of two: that of so many test images, and over seeds Student's t.

    Args:
        run: one of them, or the folder that holds them.

    Raises:
        RecalibError: where there is no finished run, or the folder holds runs of several recipes.
    """
    from recalib.training.table import finished_runs, is_finished, table

    if (run / "config.json").is_file():
        folders = finished_runs(run.parent, run)
    else:
        done = [path.parent for path in sorted(run.glob("*/config.json")) if is_finished(path.parent)]
        folders = finished_runs(run, done[0]) if done else []
        if len(folders) < len(done):
            raise RecalibError(f"{run} holds runs of several recipes; name one run, such as {done[0]}")
    if not folders:
        raise RecalibError(f"{run}: neither it nor a run beside it with the same recipe is finished")
    images = _test_images(folders[0])
    return {
        (row.model, row.attention): Accuracy(
            row.top1, _error(row.top1, row.top1_std, row.runs, images), f"your runs, {row.runs}", "own"
        )
        for row in table(folders)
    }


def _test_images(run: Path) -> int | None:
    """Number of images that a run was evaluated on: as it recorded, or else as its recipe says; None where unknown."""
    from recalib.runs import read_config, read_metrics

    recorded = [int(row["images"]) for row in read_metrics(run) if "top1" in row and "images" in row]
    if recorded:
        return recorded[-1]
    recipe: Mapping[str, Any] = read_config(run)["recipe"]
    whole = _CIFAR_TEST_IMAGES.get(recipe.get("dataset") or "cifar10")
    limits = [number for number in (whole, recipe.get("limit")) if number]
    return min(limits, default=None)


def _error(top1: float, deviation: float, runs: int, images: int | None) -> float:
    sampling = sampling_error(top1, images) if images else math.inf
    return max(sampling, half_width_of(deviation, runs)) if runs > 1 else sampling


def _by(size: int | tuple[int, int]) -> str:
    height, width = sides(size)
    return str(height) if height == width else f"{height}x{width}"

"""Detectors against each other, part by part: those of one kind in turn, call after call."""

import copy
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from recalib.cost.detectors import parts_of
from recalib.deploy import deploy
from recalib.detection.detectors import DETECTORS, build_detector, detector_spec
from recalib.errors import unknown
from recalib.measure.cells import BASELINE, Cell, fingerprint
from recalib.measure.networks import module_names, seeded
from recalib.measure.schedule import Schedule, check_how, check_numbers
from recalib.measure.session import Group, How, InParts, Prepare
from recalib.measure.sizes import Size, sides
from recalib.runtimes.machine import describe
from recalib.version import code_digest

COCO_CLASSES = 81  # with the background
DIVISOR = 32  # torchvision's detectors pad the sides of images to multiples of it
PROTOCOL = "detector parts"  # of the machine's description: the clock is read between the parts
READY_S, GMACS, GMACS_PER_S = 6.0, 180.0, 100.0  # to make one detector; of one image of 800 x 1280; on two cores


def detectors(
    models: Sequence[str], modules: Sequence[str], sizes: Sequence[Size], batches: Sequence[int], *, how: How,
    processes: int = 1,
) -> Schedule:  # fmt: skip
    """Every combination of detectors, sizes and batches, plain and with each module, as inserted and deployed.

    Args:
        models: names in `recalib.detection.detectors.DETECTORS`.
        modules: attention modules of the backbone; the plain detector always runs.
        sizes: of the images.
        batches: images in one forward pass.
        how: how.
        processes: that measure each group.

    Raises:
        RecalibError: for an argument that is not right.
    """
    check_how(how, [])
    check_numbers(batches=(min(batches), 1))
    for model in models:
        if model not in DETECTORS:
            raise unknown("detector", model, DETECTORS)
    names, machine = module_names(modules), describe(how.settings("fp32")) | {"protocol": PROTOCOL}
    groups: list[Group] = [
        DetectorGroup(
            [
                Cell(
                    model=model, module=module, runtime="eager", deployed=form, size=sides(size), batch=batch,
                    protocol=how.protocol, machine=fingerprint(machine), code=code_digest(),
                )
                for module in names
                for form in (False, True)
            ]
        )
        for model, size, batch in itertools.product(models, sizes, batches)
    ]  # fmt: skip
    return Schedule(groups, how, [machine], processes)


@dataclass
class DetectorGroup(Group):
    """A detector, plain and with every module in its backbone; weights are random, see `see_much_`."""

    def preparing(self, how: How) -> Prepare:
        """Detectors are made when they are asked for."""
        settings = how.settings("fp32")

        @functools.lru_cache(maxsize=1)
        def made(module: str) -> nn.Module:
            return _detector(self.cells[0].model, module, sides(self.cells[0].size))

        def prepare(cell: Cell) -> DetectorSession:
            detector, (height, width) = made(cell.module), _seen(cell)
            if cell.deployed:
                detector = with_deployed_backbone(detector, cell.batch, height, width)
            start = time.perf_counter()
            session = DetectorSession(detector, cell.batch, sides(cell.size), settings.device)
            session.run()
            cell.params = sum(parameter.numel() for parameter in detector.parameters())
            cell.setup_s, cell.device, cell.layout = time.perf_counter() - start, session.device, session.layout
            return session

        return prepare

    def seconds(self, how: How) -> float:
        """By the size of the images, within a factor of three."""
        first = self.cells[0]
        height, width = sides(first.size)
        one = GMACS * first.batch * height * width / (800 * 1280) / GMACS_PER_S
        return len(self.cells) * (READY_S + one * (2 + (how.rounds or 10)))


class DetectorSession(InParts):
    """A detector as a whole, in evaluation mode, the clock read where its parts begin and end.

    On a GPU it is read after the part has finished what it was given, so that a call takes somewhat longer than one
    that is not looked at.

    Args:
        detector: one of torchvision's; a copy is made.
        images: in one forward pass.
        size: H and W of the images.
        device: where it runs.
    """

    def __init__(self, detector: nn.Module, images: int, size: tuple[int, int], device: torch.device) -> None:
        copied = copy.deepcopy(detector).eval().to(device)
        self.detector = copied.to(memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(1)
        self.images = list(torch.rand(images, 3, *size, generator=generator).to(device))
        self.device, self.layout = device.type, "channels_last"
        self.spent: list[dict[str, float]] = []  # milliseconds of each part, a call each
        for part, module in parts_of(self.detector).items():
            module.register_forward_pre_hook(self._clock(part, -1))
            module.register_forward_hook(self._clock(part, +1))

    def _clock(self, part: str, sign: int) -> Callable[..., None]:
        def read(*_: Any) -> None:
            if self.device == "cuda":
                torch.cuda.synchronize()
            call = self.spent[-1]
            call[part] = call.get(part, 0.0) + sign * time.perf_counter() * 1e3

        return read

    def run(self) -> None:
        """One call."""
        self.spent.append({})
        with torch.inference_mode():
            self.detector(self.images)
        if self.device == "cuda":
            torch.cuda.synchronize()

    def output(self) -> Tensor:
        """Nothing: boxes of random weights are not compared."""
        return torch.empty(0)

    def parts_ms(self, totals: Sequence[float]) -> dict[str, Any]:
        """Median and samples of each part, of the last calls.

        ``transform``, ``backbone``, ``neck``, ``rpn`` with its choice of proposals, ``roi_heads`` with RoI align and
        suppression, or ``head``; and ``rest`` of the whole.
        """
        calls = self.spent[-len(totals) :]
        parts = {part: [call[part] for call in calls] for part in calls[0]}
        parts["rest"] = [total - sum(call.values()) for total, call in zip(totals, calls, strict=True)]
        return {part: {"median": median(samples), "samples": samples} for part, samples in parts.items()}


def see_much_(detector: nn.Module) -> None:
    """Make a detector with random weights work as hard as one that is trained, in place.

    Of a detector with two stages: the first proposes anchors by scores that are drawn, the same for every backbone, and
    the second takes each of them for an object. So there are as many proposals and masks as `FixedWork` counts, if as
    many fit into the image, at the same places whatever the backbone. Random weights alone would leave the mask head
    without work, and the second stage with proposals from other maps.
    """
    whole: Any = detector
    if not hasattr(whole, "roi_heads"):
        return
    boxes = whole.roi_heads.box_predictor
    for layer in (whole.rpn.head.bbox_pred, boxes.bbox_pred, boxes.cls_score):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        boxes.cls_score.bias[1] = 10.0
    whole.rpn.head.register_forward_hook(_draw_scores)


def _draw_scores(head: nn.Module, maps: Any, found: tuple[list[Tensor], list[Tensor]]) -> Any:
    return [_drawn(scores.shape, scores.device) for scores in found[0]], found[1]


@functools.cache
def _drawn(shape: torch.Size, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def with_deployed_backbone(detector: nn.Module, images: int, height: int, width: int) -> nn.Module:
    """A copy of a detector whose backbone went through `recalib.deploy`, for images of this size."""
    copied: Any = copy.deepcopy(detector).eval()
    size = (images, 3, height, width)
    if hasattr(copied.backbone, "fpn"):
        copied.backbone.body = deploy(copied.backbone.body, size)
    else:
        copied.backbone = deploy(copied.backbone, size)
    return copied


def _detector(model: str, module: str, size: tuple[int, int]) -> nn.Module:
    sizes: dict[str, Any] = {} if detector_spec(model).side else {"min_size": min(size), "max_size": max(size)}
    with seeded():
        attention = None if module == BASELINE else module
        detector = build_detector(model, num_classes=COCO_CLASSES, attention=attention, **sizes)
        see_much_(detector)
    return detector.eval()


def _seen(cell: Cell) -> tuple[int, int]:
    """H and W of what the backbone sees."""
    side, (height, width) = detector_spec(cell.model).side, sides(cell.size)
    return (side, side) if side else (_padded(height), _padded(width))


def _padded(side: int) -> int:
    return -(-side // DIVISOR) * DIVISOR

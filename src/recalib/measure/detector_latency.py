"""Detectors against each other, part by part: those of one kind in turn, call after call."""

import copy
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recalib.deploy import deploy
from recalib.measure.cells import BASELINE
from recalib.measure.detector_parts import parts_latency
from recalib.measure.statistics import distinguishable, ratio_interval
from recalib.runtimes.timer import warnings_for

Times = dict[str, list[float]]  # milliseconds of every call, by part
Form = tuple[str, bool]  # attention module or baseline, and whether the backbone is deployed


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


def time_in_turn(
    detectors: Mapping[Form, nn.Module],
    images: Sequence[Tensor],
    rounds: int,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[Form, Times]:
    """Time each detector once a round, after a round that warms up; see `parts_latency`."""
    times: dict[Form, Times] = {form: {} for form in detectors}
    for done in range(rounds + 1):
        for form, detector in detectors.items():
            found = parts_latency(detector, images, rounds=1, warm_up=0)
            for part, values in found.items() if done else ():
                times[form].setdefault(part, []).extend(values)
        progress("timing" if done else "warming up", done, rounds)
    return times


def rows(times: Mapping[Form, Times]) -> list[dict[str, Any]]:
    """A row of results for each detector, in JSON's types.

    Returns:
        For each ``module``, ``deployed``, ``latency_ms`` and, by part, ``parts_ms``, both with ``median`` and
        ``samples``, ``warnings``, and ``overhead`` of the total over the faster form of the plain detector in the
        same rounds: ``ratio``, ``low`` and ``high`` (95 %), ``p`` and ``distinguishable``, corrected over the rows.
    """
    totals = {form: found["total"] for form, found in times.items()}
    plain = min((form for form in totals if form[0] == BASELINE), key=lambda form: statistics.median(totals[form]))
    others = [form for form in totals if form != plain]
    verdicts = dict(zip(others, distinguishable([(totals[form], totals[plain]) for form in others]), strict=True))
    return [
        {
            "module": form[0],
            "deployed": form[1],
            "latency_ms": _summary(totals[form]),
            "parts_ms": {part: _summary(values) for part, values in found.items() if part != "total"},
            "overhead": _overhead(totals[form], totals[plain], verdicts.get(form, (1.0, False))),
            "warnings": warnings_for(totals[form]),
        }
        for form, found in times.items()
    ]


def _summary(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "samples": values}


def _overhead(samples: list[float], plain: list[float], verdict: tuple[float, bool]) -> dict[str, Any]:
    return {**ratio_interval(samples, plain)._asdict(), "p": verdict[0], "distinguishable": verdict[1]}

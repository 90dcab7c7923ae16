"""Predictions on a test set, and the figures that follow: accuracy, calibration, intervals, comparisons."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.errors import RecalibError
from recalib.training.trainer import summed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BINS = 15  # of the calibration error; Guo et al. 2017 and everyone since


@dataclass(frozen=True)
class Predictions:
    """One row an image.

    Attributes:
        labels: int64, shape (N,).
        top: the five most probable classes (fewer where there are fewer), most probable first, shape (N, 5).
        confidence: probability of the first, shape (N,).
        loss: cross-entropy, shape (N,).
    """

    labels: Tensor
    top: Tensor
    confidence: Tensor
    loss: Tensor

    def correct(self, k: int = 1) -> np.ndarray:
        """Booleans of shape (N,): true where the label is among the k most probable classes."""
        hits: np.ndarray = (self.top[:, :k] == self.labels[:, None]).any(1).numpy()
        return hits


@torch.no_grad()
def predict(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Predictions:
    """Run a network, in evaluation mode, over labelled batches on its device.

    Args:
        network: maps images (N, 3, H, W) to logits (N, classes); left in evaluation mode.
        batches: pairs of images and labels.
        autocast: context of a mixed precision.
    """
    network.eval()
    rows = []
    for images, labels in batches:
        with autocast():
            logits = network(images).float()
        confidence, top = logits.softmax(1).topk(min(5, logits.shape[1]))
        rows.append((labels, top, confidence[:, 0], F.cross_entropy(logits, labels, reduction="none")))
    if not rows:
        raise RecalibError("there are no images to evaluate on")
    return Predictions(*(torch.cat(column).cpu() for column in zip(*rows, strict=True)))


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], fabric: "Fabric") -> dict[str, float]:
    """Loss, top-1 and top-5 in percent over the parts of the test set that the processes hold, and its ``images``."""
    seen = predict(network, batches, fabric.autocast)
    sums = torch.tensor([float(seen.loss.sum()), seen.correct().sum(), seen.correct(5).sum(), len(seen.labels)])
    loss, top1, top5, count = summed(sums.to(fabric.device), fabric).tolist()
    return {"loss": loss / count, "top1": 100 * top1 / count, "top5": 100 * top5 / count, "images": int(count)}


def summary(seen: Predictions, classes: tuple[str, ...]) -> dict[str, Any]:
    """All figures of one network, accuracies in percent.

    Args:
        seen: its predictions.
        classes: names of the classes, in label order.
    """
    correct = seen.correct()
    low, high = bootstrap_interval(correct)
    labels = seen.labels.numpy()
    per_class = {name: percent(correct[labels == i]) for i, name in enumerate(classes) if (labels == i).any()}
    return {
        "top1": percent(correct),
        "top1_interval": [low, high],
        "top5": percent(seen.correct(5)),
        "loss": float(seen.loss.double().mean()),
        "calibration_error": 100 * calibration_error(seen.confidence.numpy(), correct),
        "images": len(correct),
        "per_class": per_class,
    }


def percent(hits: np.ndarray) -> float:
    """Share of true values in percent."""
    return 100 * int(hits.sum()) / len(hits)


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal width; Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    Args:
        confidence: probability of the predicted class, shape (N,).
        correct: true for images that were told right, shape (N,).
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, correct.astype(float) - confidence, BINS)
    return float(np.abs(gaps).sum() / len(correct))


def bootstrap_interval(correct: np.ndarray) -> tuple[float, float]:
    """95 % interval of the accuracy, in percent, over resampled test images (percentile bootstrap, 2,000 draws)."""
    from scipy.stats import bootstrap

    if correct.all() or not correct.any():
        return percent(correct), percent(correct)
    drawn = bootstrap((correct,), np.mean, n_resamples=2000, method="percentile", batch=50, rng=0)
    return 100 * float(drawn.confidence_interval.low), 100 * float(drawn.confidence_interval.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Exact McNemar test of two networks on the same images.

    Args:
        first: true for images that the one told right, shape (N,).
        second: the same of the other, shape (N,).

    Returns:
        Images only the one, only the other got right, and the two-sided p-value of no difference.

    Raises:
        RecalibError: where the two saw different numbers of images.
    """
    from scipy.stats import binomtest

    if len(first) != len(second):
        raise RecalibError(f"two networks are compared on the same images; these saw {len(first)} and {len(second)}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": p}

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torchmetrics.functional.classification import multiclass_calibration_error

from recalib.classification.scores import bootstrap_interval, calibration_error, mcnemar, predict, summary
from recalib.errors import RecalibError


class Fixed(torch.nn.Module):
    """A network whose logits are its input."""

    def forward(self, x):
        return x.flatten(1)


@pytest.fixture
def logits():
    return 2 * torch.randn(400, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.randint(7, (400,), generator=torch.Generator().manual_seed(1))


def predictions(logits, labels):
    return predict(Fixed(), zip(logits.split(64), labels.split(64), strict=True))


def test_accuracies_are_the_share_of_labels_among_the_most_probable(logits, labels):
    result = summary(predictions(logits, labels), tuple("abcdefg"))
    ranked = logits.argsort(1, descending=True).numpy()
    for key, k in (("top1", 1), ("top5", 5)):
        hits = [label in row[:k] for label, row in zip(labels, ranked, strict=True)]
        assert result[key] == 100 * sum(hits) / 400
    assert result["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits.double(), labels)))
    assert result["images"] == 400


def test_each_class_has_its_own_accuracy(logits, labels):
    per_class = summary(predictions(logits, labels), tuple("abcdefg"))["per_class"]
    third = labels == 2
    assert per_class["c"] == pytest.approx(100 * float((logits.argmax(1) == 2)[third].double().mean()))
    assert list(per_class) == list("abcdefg")


def test_top5_of_fewer_than_five_classes_is_always_right():
    seen = predictions(torch.randn(10, 3), torch.zeros(10, dtype=torch.int64))
    assert seen.correct(5).all()


def test_the_calibration_error_is_that_of_torchmetrics(logits, labels):
    seen = predictions(logits, labels)
    ours = calibration_error(seen.confidence.double().numpy(), seen.correct())
    theirs = multiclass_calibration_error(logits.softmax(1), labels, num_classes=7, n_bins=15, norm="l1")
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_a_certain_and_right_network_is_calibrated():
    assert calibration_error(np.ones(5), np.ones(5, bool)) == 0


@pytest.mark.parametrize("share", [0.5, 0.9173])
def test_the_bootstrap_interval_is_that_of_the_binomial(share):
    correct = np.arange(10_000) < 10_000 * share
    low, high = bootstrap_interval(correct)
    assert (low, high) == pytest.approx(tuple(binom.ppf([0.025, 0.975], 10_000, share) / 100), abs=0.08)


def test_an_interval_needs_something_to_vary():
    assert bootstrap_interval(np.ones(10, bool)) == (100, 100)


def test_mcnemar_counts_only_the_images_on_which_two_networks_differ():
    first = np.array([1] * 50 + [1] * 12 + [0] * 3 + [0] * 35, bool)
    second = np.array([1] * 50 + [0] * 12 + [1] * 3 + [0] * 35, bool)
    result = mcnemar(first, second)
    assert (result["only_first"], result["only_second"]) == (12, 3)
    assert result["p"] == pytest.approx(2 * binom.cdf(3, 15, 0.5))
    assert mcnemar(first, first)["p"] == 1


def test_two_networks_must_have_seen_the_same_images():
    with pytest.raises(RecalibError, match="these saw 3 and 4"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))

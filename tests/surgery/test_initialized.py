"""Insertion into a network with real weights, on real images."""

import importlib.util
import os
from pathlib import Path

import pytest

from recalib.surgery import insert_

DATA = os.environ.get("RECALIB_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="RECALIB_DATA is not set: no pretrained weights and images")


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "initialized.py"
    spec = importlib.util.spec_from_file_location("initialized", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plain(example):
    images, labels = example.samples(Path(DATA), 30)
    model = example.mobilenet_v2(Path(DATA))
    return images, labels, example.probabilities(model, images, "plain")


def test_the_weights_are_read_as_they_should_be(plain, example):
    _, labels, probabilities = plain
    assert example.top1(probabilities, labels) > 75  # 85.3 on all 1,000


@pytest.mark.parametrize("name", ["ab", "eca", "se", "srm", "multi_se", "gct"])
def test_identity_leaves_real_predictions_unchanged(plain, example, name):
    images, _, probabilities = plain
    model = example.mobilenet_v2(Path(DATA))
    insert_(model, name, identity=True)
    found = example.probabilities(model, images[:10], name)
    assert (found - probabilities[:10]).abs().max() <= 1e-5
    assert (found.argmax(1) == probabilities[:10].argmax(1)).all()


def test_plain_se_does_not_leave_them_unchanged(plain, example):
    images, labels, probabilities = plain
    model = example.mobilenet_v2(Path(DATA))
    insert_(model, "se")
    found = example.probabilities(model, images, "se")
    assert (found - probabilities).abs().max() > 0.5
    assert example.top1(found, labels) < 10

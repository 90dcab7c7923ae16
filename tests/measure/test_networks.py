"""Networks that are measured, with the weights of a checkpoint."""

import os
import time
from pathlib import Path

import pytest
import torch

from recalib.errors import RecalibError
from recalib.measure import networks
from recalib.measure.networks import backbone, fastest
from recalib.runtimes import Session
from recalib.surgery import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def original():
    """akamaster's ResNet-20 with shortcuts of option A."""
    if "RECALIB_DATA" not in os.environ:
        pytest.skip("RECALIB_DATA is not set")
    file = Path(os.environ["RECALIB_DATA"]) / "weights" / "cifar10_resnet" / "resnet20-12fca82f.th"
    if not file.exists():
        pytest.skip(f"no {file.name}")
    return file


@pytest.mark.parametrize("name", ["cifar_resnet20", "resnet20", "cifar_resnet20_pad"])
def test_the_checkpoint_says_which_shortcuts_the_network_has(original, name):
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(backbone(name, original)(images), load_checkpoint(original).eval()(images))


def test_the_checkpoint_of_another_network_is_refused(original):
    with pytest.raises(RecalibError, match="resnet20-12fca82f"):
        backbone("cifar_resnet32", original)


def test_shortcuts_that_the_name_asks_for_are_not_changed(tmp_path):
    file = tmp_path / "projection.safetensors"
    save_checkpoint(backbone("cifar_resnet20"), file)
    assert backbone("cifar_resnet20", file)(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    with pytest.raises(RecalibError):
        backbone("cifar_resnet20_pad", file)


def test_checking_a_name_takes_no_memory_and_knows_what_there_is(monkeypatch):
    monkeypatch.setattr(networks, "backbone", None)
    networks.check("resnet50")
    with pytest.raises(RecalibError, match="unknown model 'resnet5'"):
        networks.check("resnet5")


def test_a_network_that_looks_at_its_weights_is_made_to_be_checked(monkeypatch):
    made = []
    monkeypatch.setattr(networks, "create_model", lambda name: torch.zeros(1).item())  # nothing to look at on "meta"
    monkeypatch.setattr(networks, "backbone", lambda *asked: made.append(asked))
    networks.check("mine")
    assert made == [("mine", None)]


def test_of_two_forms_of_a_baseline_the_faster_one_counts():
    class Sleeping(Session):
        asynchronous = False

        def __init__(self, seconds):
            self.seconds = seconds

        def run(self):
            time.sleep(self.seconds)

        def output(self):
            return torch.zeros(1)

    slow, fast = Sleeping(0.01), Sleeping(0.001)
    assert fastest([slow, fast]) is fast
    assert fastest([fast, slow]) is fast


def test_a_yolo_which_reads_its_strides_while_it_is_made_is_known_by_its_file(monkeypatch):
    pytest.importorskip("ultralytics")
    networks.check("yolo11n.yaml")

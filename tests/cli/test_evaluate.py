import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from recalib import models
from recalib.cli import main
from recalib.surgery import insert_, save_checkpoint

DATA = os.environ.get("RECALIB_DATA")


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = models.create_model("cifar_resnet8", num_classes=10)
    insert_(network, "eca")
    save_checkpoint(network, tmp_path / "a.safetensors", normalization=[[0.5] * 3, [0.5] * 3])
    return tmp_path / "a.safetensors"


def evaluate(*arguments):
    return main(["evaluate", *map(str, arguments), "--device", "cpu"])


def test_network_attention_and_normalisation_are_told_by_the_checkpoint(checkpoint, cifar, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert evaluate("--weights", checkpoint, "--data", cifar, "--limit", 200, "--json", out) == 0
    result = json.loads(out.read_text())
    assert (result["architecture"], result["attention"]) == ("cifar_resnet8", "eca")
    assert (result["normalization"], result["normalization_from"]) == ("tensorflow", "the checkpoint")
    assert 0 <= result["top1"] <= result["top5"] <= 100
    assert result["images"] == 200
    assert "normalised as tensorflow (from the checkpoint)" in capsys.readouterr().out


def test_a_run_is_evaluated_by_the_weights_it_ended_with(cifar, tmp_path):
    train = ["train", "cifar-paper", "--model", "cifar_resnet8", "--attention", "srm", "--epochs", "1",
             "--limit", "200", "--data", str(cifar), "--out", str(tmp_path), "--name", "run",
             "--device", "cpu"]  # fmt: skip
    assert main([*train, "--json", str(tmp_path / "train.json")]) == 0
    assert evaluate("--weights", tmp_path / "run", "--data", cifar, "--limit", 200, "--json", tmp_path / "e.json") == 0
    trained, seen = (json.loads((tmp_path / name).read_text()) for name in ("train.json", "e.json"))
    assert seen["attention"] == "srm"
    assert seen["normalization"] == "cifar"
    assert {key: seen[key] for key in ("top1", "top5")} == {key: trained[key] for key in ("top1", "top5")}
    assert seen["loss"] == pytest.approx(trained["loss"], rel=1e-6)


def test_two_checkpoints_are_compared_image_by_image(checkpoint, cifar, tmp_path, capsys):
    out = tmp_path / "out.json"
    arguments = ["--weights", checkpoint, "--against", checkpoint, "--data", cifar, "--limit", 100, "--json", out]
    assert evaluate(*arguments) == 0
    result = json.loads(out.read_text())
    assert result["mcnemar"] == {"only_first": 0, "only_second": 0, "p": 1.0}
    assert "exact McNemar test" in capsys.readouterr().out


def test_wrong_numbers_of_classes_are_said(cifar, tmp_path, capsys):
    save_checkpoint(models.create_model("cifar_resnet8", num_classes=7), tmp_path / "b.safetensors")
    assert evaluate("--weights", tmp_path / "b.safetensors", "--data", cifar) == 2
    assert "b.safetensors tells 7 classes apart, the data has 10" in capsys.readouterr().err


def test_what_is_missing_is_named(checkpoint, tmp_path, capsys):
    assert evaluate("--weights", tmp_path / "no.pth", "--data", tmp_path) == 2
    assert "no.pth" in capsys.readouterr().err
    assert evaluate("--weights", checkpoint, "--data", tmp_path) == 2
    assert "holds no data set" in capsys.readouterr().err


PUBLISHED = {
    "cifar10_resnet/resnet20-12fca82f.th": 91.73,
    "cifar10_resnet/resnet32-d509ac18.th": 92.63,
    "cifar10_resnet/resnet56-4bfd9763.th": 93.39,
    "cifar10_srm_resnet32/cifar_best_srmnet.pth": 93.06,
}


@pytest.fixture(scope="module")
def real_test_images(tmp_path_factory):
    """The real test images, in the official binary layout."""
    if DATA is None:
        pytest.skip("RECALIB_DATA is unset")
    root = tmp_path_factory.mktemp("real")
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    spec = importlib.util.spec_from_file_location("cifar_pack", Path(DATA) / "cifar_pack.py")
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    images, labels = pack.load_batch(Path(DATA) / "cifar10" / "test_batch.npz")
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    np.concatenate([labels["labels"].astype(np.uint8)[:, None], pixels], 1).tofile(folder / "test_batch.bin")
    return root


def test_a_part_of_the_real_test_set_gives_an_accuracy_near_the_published(real_test_images, tmp_path):
    out, file = tmp_path / "out.json", Path(DATA or "") / "weights" / "cifar10_resnet/resnet20-12fca82f.th"
    assert evaluate("--weights", file, "--data", real_test_images, "--limit", 1500, "--json", out) == 0
    low, high = json.loads(out.read_text())["top1_interval"]
    assert low < 91.73 < high


@pytest.mark.slow(reason="whole test set, a minute")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_their_published_accuracy(name, real_test_images, tmp_path):
    out = tmp_path / "out.json"
    assert evaluate("--weights", Path(DATA or "") / "weights" / name, "--data", real_test_images, "--json", out) == 0
    assert json.loads(out.read_text())["top1"] == pytest.approx(PUBLISHED[name], abs=0.1)

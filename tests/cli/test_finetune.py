import json

import pytest
import torch

from recalib import models
from recalib.cli import main
from recalib.surgery import save_checkpoint


@pytest.fixture
def pretrained(cifar, tmp_path):
    train = ["train", "cifar-paper", "--model", "cifar_resnet8", "--epochs", "3", "--batch", "50", "--limit", "400",
             "--lr", "0.05", "--data", str(cifar), "--out", str(tmp_path), "--name", "base",
             "--device", "cpu"]  # fmt: skip
    assert main(train) == 0
    return tmp_path / "base"


def finetune(pretrained, cifar, tmp_path, *more):
    return main(
        ["finetune", "--weights", str(pretrained), "--data", str(cifar), "--out", str(tmp_path / "out"),
         "--epochs", "1", "--limit", "400", "--batch", "50", "--device", "cpu",
         "--json", str(tmp_path / "t.json"), *more]
    )  # fmt: skip


def test_the_initialized_column_is_the_networks_own_where_modules_start_as_the_identity(pretrained, cifar, tmp_path):
    modules = ["--attention", "baseline", "ab", "se"]
    assert finetune(pretrained, cifar, tmp_path, *modules) == 0
    rows = {(row["module"], row["start"]): row for row in json.loads((tmp_path / "t.json").read_text())["table"]}
    last = json.loads((pretrained / "metrics.jsonl").read_text().splitlines()[-1])
    assert list(rows) == [("baseline", ""), ("ab", "identity"), ("se", "default"), ("se", "identity")]
    for key in (("baseline", ""), ("ab", "identity"), ("se", "identity")):
        assert rows[key]["initialized"] == last["top1"]
    assert rows["se", "default"]["initialized"] != last["top1"]
    assert finetune(pretrained, cifar, tmp_path, *modules, "--resume") == 0  # nothing left to do
    again = json.loads((tmp_path / "t.json").read_text())["table"]
    assert again == list(rows.values())


def test_model_and_normalisation_come_from_the_weights(cifar, tmp_path):
    torch.manual_seed(0)
    network = models.create_model("cifar_resnet8_pad", num_classes=10)
    file = tmp_path / "pad.safetensors"
    save_checkpoint(network, file, normalization=[[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    assert finetune(file, cifar, tmp_path, "--attention", "eca", "--starts", "default") == 0
    (folder,) = (tmp_path / "out").iterdir()
    recipe = json.loads((folder / "config.json").read_text())["recipe"]
    assert recipe["model"] == "cifar_resnet8_pad"
    assert recipe["normalization"] == "imagenet"
    assert recipe["lr"] == 0.001


def test_weights_are_needed(cifar, capsys):
    assert main(["finetune", "--data", str(cifar)]) == 2
    assert "Give --weights FILE" in capsys.readouterr().err

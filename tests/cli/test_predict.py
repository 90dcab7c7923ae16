"""`recalib export` and `predict` as a user calls them."""

import json

import pytest
import torch
from PIL import Image

from recalib import save_checkpoint
from recalib.cli import main
from recalib.models import create_model


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save_checkpoint(create_model("cifar_resnet20"), path, classes=[f"kind {i}" for i in range(10)])
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, colour in enumerate(("red", "navy")):
        Image.new("RGB", (60, 40), colour).save(folder / f"{i}.png")
    return folder


def test_an_exported_file_predicts_what_its_checkpoint_does(checkpoint, photos, tmp_path):
    file = tmp_path / "net.onnx"
    assert main(["export", str(checkpoint), "--images", str(photos), "--out", str(file)]) == 0
    results = []
    for source in (checkpoint, file):
        out = tmp_path / "p.json"
        sheet = tmp_path / "sheet.png"
        assert main(["predict", str(photos), "--weights", str(source), "--json", str(out), "--out", str(sheet)]) == 0
        results.append(json.loads(out.read_text())["images"])
    for ours, exported in zip(*results, strict=True):
        assert [t["name"] for t in ours["top"]] == [t["name"] for t in exported["top"]]
        assert ours["top"][0]["name"].startswith("kind ")
        assert [t["probability"] for t in ours["top"]] == pytest.approx(
            [t["probability"] for t in exported["top"]], 1e-4
        )
    with Image.open(sheet) as drawn:
        assert drawn.size == (16 + 2 * 240, 16 + 224 + 20 * 6 + 16)


def test_evaluation_of_an_exported_file_is_that_of_its_checkpoint(checkpoint, cifar, tmp_path):
    file, results = tmp_path / "net.onnx", []
    assert main(["export", str(checkpoint), "--dynamic", "--out", str(file)]) == 0
    for source in (checkpoint, file):
        out = tmp_path / "e.json"
        flags = ["--data", str(cifar), "--limit", "200", "--json", str(out)]
        assert main(["evaluate", "--weights", str(source), *flags]) == 0
        results.append(json.loads(out.read_text()))
    assert results[0]["top1"] == results[1]["top1"]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], 1e-5)
    assert results[1]["format"] == "onnx"


def test_files_go_into_folders_that_are_made(checkpoint, tmp_path):
    file = tmp_path / "new" / "net.onnx"
    assert main(["export", str(checkpoint), "--out", str(file)]) == 0
    assert file.is_file()


@pytest.mark.parametrize(
    ("argv", "said", "code"),
    [
        (["predict", "nowhere.png", "--weights", "CHECKPOINT"], "nowhere.png", 2),
        (["export", "CHECKPOINT", "--out", "net.xml"], "ends in .onnx", 2),
        (["export", "CHECKPOINT", "--to", "tensorrt"], "trtexec", 2),
        (["export", "CHECKPOINT", "--tolerance", "0", "--out", "OUT.onnx"], "differs", 1),
        (["export", "CHECKPOINT", "--tolerance", "nan"], "--tolerance nan", 2),
        (["export", "missing.pth"], "missing.pth is no file", 2),
        (["predict", "PHOTOS", "--weights", "missing.onnx"], "missing.onnx: there is no such file", 2),
        (["predict", "PHOTOS", "--weights", "torn.xml"], "torn.xml is no OpenVINO model", 2),
        (["predict", "PHOTOS", "--weights", "torn.pt2"], "torn.pt2 is no archive", 2),
        (["predict", "PHOTOS", "--weights", "torn.onnx", "--model", "resnet18"], "torn.onnx holds its network", 2),
    ],
)
def test_mistakes_are_one_line(argv, said, code, checkpoint, photos, tmp_path, capfd):
    torn = {name: tmp_path / name for name in ("torn.xml", "torn.pt2", "torn.onnx")}
    for path in torn.values():
        path.write_text("<net")
    places = {"CHECKPOINT": checkpoint, "PHOTOS": photos, "OUT.onnx": tmp_path / "o.onnx"} | torn
    assert main([str(places.get(word, word)) for word in argv]) == code
    error = capfd.readouterr().err  # what libraries write past Python, too
    assert said in error
    assert error.count("\n") == 1

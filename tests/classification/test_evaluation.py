"""What weights say of how they are to be used, and that it is kept to."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.jobs import classification_job

from recalib import inspect_checkpoint, save_checkpoint
from recalib.classification import run
from recalib.cli import main
from recalib.models import create_model


def pictures(root, classes):
    draw = np.random.default_rng(0)
    for half in ("train", "val"):
        for i, name in enumerate(classes):
            folder = root / half / name
            folder.mkdir(parents=True)
            for j in range(4):
                pixels = draw.integers(0, 120, (50, 60, 3), dtype=np.uint8) + np.uint8(100 * i)
                Image.fromarray(pixels).save(folder / f"{j}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on 40 pixels of images of cats and dogs, and these."""
    root = tmp_path_factory.mktemp("sized")
    data = pictures(root / "images", ["cat", "dog"])
    job = classification_job(data, root, dataset="imagenet", image_size=40, batch=4, epochs=1, workers=0, limit=None)
    return run(job).folder, data


def evaluate(run, data, tmp_path, *more):
    out = tmp_path / "out.json"
    status = main(["evaluate", "--weights", str(run), "--data", str(data), "--workers", "0", "--device", "cpu",
                   "--json", str(out), *more])  # fmt: skip
    return json.loads(out.read_text()) if status == 0 else status


def test_weights_say_size_crop_interpolation_classes_and_data_set(trained):
    told = inspect_checkpoint(trained[0] / "last.safetensors").metadata
    assert told["preprocessing"] == {"size": [40, 40], "crop": 0.875, "interpolation": "bilinear"}
    assert told["classes"] == ["cat", "dog"]
    assert told["dataset"] == "imagenet"


def test_evaluation_is_at_the_size_that_was_trained_and_says_so(trained, tmp_path, capsys):
    result = evaluate(*trained, tmp_path)
    assert (result["image_size"], result["image_size_from"]) == (40, "the checkpoint")
    assert "at 40 pixels (from the checkpoint), crop 0.875, bilinear; trained on imagenet" in capsys.readouterr().out
    last = json.loads((trained[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["loss"] == pytest.approx(last["loss"], rel=1e-5)
    other = evaluate(*trained, tmp_path, "--size", "64")
    assert (other["image_size"], other["image_size_from"]) == (64, "the flag")


def test_export_and_prediction_are_at_the_size_that_was_trained(trained, tmp_path, capsys):
    folder, data = trained
    out = tmp_path / "net.onnx"
    assert main(["export", str(folder), "--out", str(out), "--images", str(data / "val" / "cat")]) == 0
    assert "40x40" in capsys.readouterr().out
    assert evaluate(out, data, tmp_path)["image_size"] == 40
    capsys.readouterr()
    assert main(["predict", str(data / "val"), "--weights", str(out)]) == 0
    assert "shown at 40x40, 0.875 of the short side, bilinear" in capsys.readouterr().err


def test_other_names_of_classes_are_an_error(trained, tmp_path, capsys):
    others = pictures(tmp_path / "others", ["cow", "dog"])
    assert evaluate(trained[0], others, tmp_path) == 2
    assert "was trained on other classes than" in (said := capsys.readouterr().err)
    assert "0 is 'cat' there, 'cow' here" in said


def test_weights_that_say_nothing_are_evaluated_at_the_data_sets_size(trained, tmp_path):
    torch.manual_seed(0)
    save_checkpoint(create_model("cifar_resnet8", num_classes=2), tmp_path / "bare.safetensors")
    result = evaluate(tmp_path / "bare.safetensors", trained[1], tmp_path)
    assert (result["image_size"], result["image_size_from"]) == (224, "the data set")


def test_a_picture_that_cannot_be_read_or_is_huge_is_left_out_and_named(trained, tmp_path, capsys, monkeypatch):
    folder, _ = trained
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (50, 50)).save(photos / "good.png")
    (photos / "bad.png").write_bytes(b"nothing")
    Image.new("1", (400, 300)).save(photos / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)  # 400 x 300 is more than twice as much, as 20000 x 12000 is
    out = tmp_path / "p.json"
    assert main(["predict", str(photos), "--weights", str(folder), "--json", str(out)]) == 0
    said = capsys.readouterr()
    assert "good.png: " in said.out
    for name in ("bad.png", "huge.png"):
        assert f"{photos / name}: left out, for it cannot be read, or is too large" in said.err
    assert json.loads(out.read_text())["unreadable"] == [str(photos / "bad.png"), str(photos / "huge.png")]
    assert main(["export", str(folder), "--images", str(photos), "--out", str(tmp_path / "n.onnx")]) == 0
    assert "huge.png: left out" in capsys.readouterr().err
    assert main(["predict", str(photos / "bad.png"), "--weights", str(folder)]) == 1
    assert "none of 1 files can be read as an image" in capsys.readouterr().err


def test_weights_in_an_npz_file_are_refused_in_one_line(tmp_path, trained, capsys):
    np.savez(tmp_path / "weights.npz", a=np.zeros(3))
    assert evaluate(tmp_path / "weights.npz", trained[1], tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_that_is_nested_deeply_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert main(["train", "--config", str(tmp_path / "config.json")]) == 2
    (tmp_path / "instances_val.json").write_text("[" * 100_000)
    assert main(["detect", "check", str(tmp_path / "instances_val.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 2

"""`recalib segment` as a user calls it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.jobs import TINY

from recalib import cifar_resnet, save_checkpoint
from recalib.cli import main
from recalib.segmentation.data import IGNORED, SegmentationFeed, changes, open_pictures
from recalib.segmentation.evaluation import evaluate
from recalib.segmentation.networks import build_segmenter, load_segmenter, write_segmenter
from recalib.segmentation.prediction import Segmented

NAME = TINY


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images of a split, with squares of class 1."""
    root = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part / "val").mkdir(parents=True)
    for i in range(2):
        labels = np.zeros((40, 60), np.uint8)
        labels[10 : 20 + i, 5:30], labels[0] = 1, IGNORED
        Image.fromarray(draw.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(root / "images" / "val" / f"{i}.png")
        Image.fromarray(labels).save(root / "labels" / "val" / f"{i}.png")
    (root / "classes.txt").write_text("nothing\nsquare\n")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network of random weights with ECA, as `recalib segment train` writes one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_segmenter(build_segmenter(NAME, num_classes=2, attention="eca"), path, NAME, ("nothing", "square"), 64)
    return path


def test_evaluation_tells_the_overlap_of_every_class_as_counted_by_hand(data, checkpoint, tmp_path, capsys):
    words = ["--weights", str(checkpoint), "--data", str(data), "--workers", "0", "--device", "cpu"]
    assert main(["segment", "evaluate", *words, "--json", str(tmp_path / "out.json")]) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    network, _, side = load_segmenter(checkpoint)
    guess, true = [], []
    for x, y in SegmentationFeed(
        open_pictures(data, "val"), 1, changes("none", side), device=torch.device("cpu")
    ).in_order(1):
        with torch.no_grad():
            guess.append(network(x).argmax(1)[y != IGNORED])
        true.append(y[y != IGNORED])
    g, t = torch.cat(guess), torch.cat(true)
    by_hand = {name: float(((g == i) & (t == i)).sum() / ((g == i) | (t == i)).sum())
               for i, name in enumerate(("nothing", "square"))}  # fmt: skip
    assert found["per_class"] == pytest.approx(by_hand)
    assert found["miou"] == pytest.approx(sum(by_hand.values()) / 2)
    assert found["pixel_accuracy"] == pytest.approx(float((g == t).float().mean()))
    assert (found["images"], found["size"], found["split"]) == (2, 64, "val")
    assert f"mean IoU {100 * found['miou']:.1f} %" in said
    assert "square" in said


def test_prediction_writes_label_images_that_can_be_trained_on(data, checkpoint, tmp_path, capsys):
    huge = tmp_path / "photos" / "huge.png"
    huge.parent.mkdir()
    Image.new("1", (20000, 12000)).save(huge)
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    words = ["--weights", str(checkpoint), "--out", str(out), "--device", "cpu"]
    assert main(["segment", "predict", str(data / "images"), str(tmp_path / "photos"), *words]) == 0
    said = capsys.readouterr().err
    assert f"{huge}: left out, for it cannot be read, or is too large" in said
    assert f"{tmp_path / 'photos' / 'torn.jpg'}: left out" in said
    found = json.loads((out / "predictions.json").read_text())
    assert [image["labels"] for image in found["images"]] == ["0.png", "1.png"]
    assert found["unreadable"] == [str(huge), str(tmp_path / "photos" / "torn.jpg")]
    with Image.open(out / "0.png") as labels:
        numbers = np.array(labels)
        assert labels.mode == "P"
    assert numbers.shape == (40, 60)
    assert set(np.unique(numbers)) <= {0, 1}
    assert found["images"][0]["shares"] == pytest.approx(
        {name: (numbers == i).mean() for i, name in enumerate(("nothing", "square")) if (numbers == i).any()}
    )
    again = tmp_path / "again"
    for part, files in (("images", data / "images" / "val"), ("labels", out)):
        (again / part / "val").mkdir(parents=True)
        for i in range(2):
            (again / part / "val" / f"{i}.png").write_bytes((files / f"{i}.png").read_bytes())
    (again / "classes.txt").write_text("nothing\nsquare\n")
    assert torch.equal(open_pictures(again, "val").read(0)[1], torch.from_numpy(numbers))
    assert main(["segment", "predict", str(huge), *words]) == 1
    assert f"none of 1 files can be read as an image, {huge} the first of them" in capsys.readouterr().err


def test_classes_are_drawn_in_colours_and_the_first_not_at_all():
    labels = torch.zeros(4, 6, dtype=torch.uint8)
    labels[1, 2] = 1
    seen = Segmented(Image.new("RGB", (6, 4), (100, 100, 100)), labels)
    drawn = np.array(seen.drawn())
    assert tuple(drawn[0, 0]) == (100, 100, 100)
    assert tuple(drawn[1, 2]) == (114, 50, 50)  # half of Pascal VOC's first colour, (128, 0, 0)
    assert seen.shares(("nothing", "square")) == {"nothing": 23 / 24, "square": 1 / 24}


def test_classes_that_differ_are_named(data, checkpoint, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for part in ("images", "labels"):
        (tmp_path / "data" / part).symlink_to(data / part)
    (tmp_path / "data" / "classes.txt").write_text("nothing\ndisc\n")
    words = ["--weights", str(checkpoint), "--data", str(tmp_path / "data"), "--device", "cpu"]
    assert main(["segment", "evaluate", *words]) == 2
    assert "data/val differ in their classes: disc, square" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["segment", "evalute"], "unknown step of segment 'evalute'; did you mean evaluate"),
        (["segment", "predict", "--weights", "CHECKPOINT"], "which images?"),
        (["segment", "predict", "nowhere.png", "--weights", "CHECKPOINT"], "nowhere.png: there is no such file"),
        (["segment", "evaluate", "--weights", "nowhere", "--data", "DATA"], "nowhere"),
        (["segment", "evaluate", "--weights", "CHECKPOINT", "--data", "DATA", "--split", "test"], "images/test"),
        (["segment", "evaluate", "--weights", "CIFAR", "--data", "DATA"], "holds no network that recalib segment"),
    ],
)
def test_mistakes_are_one_line(argv, message, data, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(cifar_resnet(8), tmp_path / "c.safetensors")
    words = {"DATA": str(data), "CHECKPOINT": str(checkpoint), "CIFAR": str(tmp_path / "c.safetensors")}
    assert main([words.get(word, word) for word in argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_images_that_cannot_be_read_are_left_out_of_the_figures_and_named(data, checkpoint, tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "val").mkdir(parents=True)
        for i in range(2):
            content = (data / part / "val" / f"{i}.png").read_bytes()
            (tmp_path / part / "val" / f"{i}.png").write_bytes(content[:99] if (part, i) == ("images", 0) else content)
    (tmp_path / "classes.txt").write_text("nothing\nsquare\n")
    found = evaluate(checkpoint, tmp_path)
    assert found["images"] == 1
    assert found["unreadable"] == [str(tmp_path / "images" / "val" / "0.png")]

"""Segmentation as the third task: its data, networks, figures, and the lifecycle it shares."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from tests.jobs import segmentation_job

from recalib.errors import RecalibError
from recalib.segmentation.data import IGNORED, open_pictures
from recalib.segmentation.job import SegmentationJob
from recalib.segmentation.networks import build_segmenter, load_segmenter
from recalib.segmentation.recipes import recipe
from recalib.surgery import inserted
from recalib.training.lifecycle import run


@pytest.fixture
def folders(tmp_path):
    """Two splits of images with squares of class 1, and a frame that does not count."""
    root = tmp_path / "data"
    draw = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for part in ("images", "labels"):
            (root / part / split).mkdir(parents=True)
        for i in range(count):
            pixels, labels = draw.integers(0, 90, (40, 60, 3), dtype=np.uint8), np.zeros((40, 60), np.uint8)
            x, y = draw.integers(2, 25, 2)
            pixels[y : y + 12, x : x + 12], labels[y : y + 12, x : x + 12] = 250, 1
            labels[:2] = IGNORED
            Image.fromarray(pixels).save(root / "images" / split / f"{i}.png")
            Image.fromarray(labels).save(root / "labels" / split / f"{i}.png")
    (root / "classes.txt").write_text("nothing\nsquare\n")
    return root


def test_folders_of_label_images_are_read_and_what_is_wrong_is_named(folders):
    pictures = open_pictures(folders, "train")
    assert (len(pictures), pictures.classes) == (4, ("nothing", "square"))
    image, labels = pictures.read(0)
    assert image.shape == (3, 40, 60)
    assert labels.unique().tolist() == [0, 1, IGNORED]
    Image.fromarray(np.full((40, 60), 7, np.uint8)).save(folders / "labels" / "train" / "0.png")
    with pytest.raises(RecalibError, match=r"0\.png has class 7; .*classes\.txt names 2, from 0"):
        open_pictures(folders, "train").read(0)
    (folders / "labels" / "val" / "1.png").unlink()
    with pytest.raises(RecalibError, match=r"1\.png is missing: the labels of"):
        open_pictures(folders, "val")
    with pytest.raises(RecalibError, match="holds no data to segment"):
        open_pictures(folders / "images", "train")


def test_masks_of_coco_become_labels(shapes):
    pictures = open_pictures(shapes, "train")
    image, labels = pictures.read(0)
    bright = (image.float().mean(0) > 200) | (image.float().mean(0) < 20)
    assert pictures.classes == ("__background__", "square", "disc")
    assert bright[labels > 0].float().mean() > 0.7
    assert not bright[labels == 0].any()


def test_the_figures_are_those_of_a_count_by_hand(folders, tmp_path):
    job = segmentation_job(folders, tmp_path)
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(0)
    task = job.open(fabric)
    found = task.evaluate(task.network, "test", fabric)
    network, inter, union, right, total = task.network.eval(), [0, 0], [0, 0], 0, 0
    for images, labels in task.shown["test"].in_order(1):
        with torch.no_grad():
            guess = network(images).argmax(1)
        counts = labels != IGNORED
        right, total = right + int((guess == labels)[counts].sum()), total + int(counts.sum())
        for c in (0, 1):
            a, b = (guess == c) & counts, labels == c
            inter[c], union[c] = inter[c] + int((a & b).sum()), union[c] + int((a | b).sum())
    assert found["miou"] == pytest.approx(np.mean([i / u for i, u in zip(inter, union, strict=True)]), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(right / total, abs=1e-6)
    assert found["images"] == 2


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50", "smp:unet:resnet18", "smp:fpn:resnet18"])
def test_networks_have_attention_in_the_encoder_and_answer_with_logits_of_the_images_size(name):
    network = build_segmenter(name, num_classes=3, attention="eca").eval()
    assert len(inserted(network).sites) in (8, 16)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_an_unknown_network_is_one_line():
    with pytest.raises(RecalibError, match="unknown segmentation network 'deeplab'; did you mean"):
        build_segmenter("deeplab", num_classes=2)
    with pytest.raises(RecalibError, match="model 'smp:nothing:resnet18'"):
        build_segmenter("smp:nothing:resnet18", num_classes=2)


def test_a_run_is_loaded_with_its_classes_attention_and_size(folders, tmp_path):
    job = segmentation_job(folders, tmp_path, attention="eca", epochs=1)
    run(job)
    network, classes, side = load_segmenter(job.folder)
    assert (classes, side) == (("nothing", "square"), 64)
    assert len(inserted(network).sites) == 3


def test_classes_that_are_no_list_of_names_are_refused(folders):
    (folders / "classes.txt").write_text("square\nsquare\n")
    with pytest.raises(RecalibError, match=r"classes\.txt names 2 classes: 2 to 255 are possible, each named once"):
        open_pictures(folders, "train")


@pytest.mark.slow(reason="minutes of training")
def test_eight_images_of_coco_are_learnt_by_heart(tmp_path):
    root = os.environ.get("RECALIB_DATA")
    if root is None:
        pytest.skip("RECALIB_DATA is unset")
    chosen = replace(recipe("overfit"), epochs=10)
    job = SegmentationJob(recipe=chosen, data=Path(root) / "coco_mini", out=tmp_path, eval_split="train", workers=0)
    assert run(job).metrics["miou"] > 0.8

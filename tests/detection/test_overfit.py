"""Detectors learn eight real images by heart, from random weights: boxes and masks."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from recalib.detection.job import DetectionJob
from recalib.detection.recipes import recipe
from recalib.training.lifecycle import run


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """The first eight training images by id without a crowd region, as both parts of a data set."""
    root = os.environ.get("RECALIB_DATA")
    if root is None or not (Path(root) / "coco_mini").is_dir():
        pytest.skip("RECALIB_DATA names no folder with coco_mini")
    source, folder = Path(root) / "coco_mini", tmp_path_factory.mktemp("eight")
    content = json.loads((source / "instances_train2017.json").read_text())
    crowded = {each["image_id"] for each in content["annotations"] if each["iscrowd"]}
    ids = sorted({image["id"] for image in content["images"]} - crowded)[:8]
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in ids]
    for split in ("train", "val"):
        (folder / f"instances_{split}2017.json").write_text(json.dumps(content))
        (folder / f"{split}2017").symlink_to(source / "train2017")
    return folder


@pytest.mark.slow(reason="a real training, minutes on two cores")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("attention", [None, "eca"])
@pytest.mark.parametrize("model", ["fasterrcnn_resnet18_fpn", "maskrcnn_resnet18_fpn"])
def test_eight_images_are_learnt_by_heart(eight, tmp_path, model, attention):
    job = DetectionJob(
        recipe=replace(recipe("overfit"), model=model, attention=attention), data=eight, out=tmp_path, workers=0
    )
    metrics = run(job).metrics
    assert metrics["AP50"] >= 0.9
    assert model.startswith("faster") or metrics["mask_AP50"] >= 0.8

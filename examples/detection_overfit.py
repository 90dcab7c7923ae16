"""Detectors learn eight images of COCO by heart, from random weights: does everything work, boxes and masks?

The first eight training images by id that have no crowd region are trained and evaluated on, by the recipe overfit.

    python examples/detection_overfit.py --data COCO --json results/detection/overfit.json
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from recalib.detection.job import Job
from recalib.detection.recipes import recipe
from recalib.detection.run import run
from recalib.runs import environment, read_metrics, write_json


@dataclass(frozen=True)
class Arguments:
    """Flags of the experiment.

    Attributes:
        data: COCO, with instances_train2017.json and train2017.
        json: where results go.
        out: folder of the runs; those that were begun go on.
        models: detectors.
        attentions: modules; none for the plain backbone.
    """

    data: Path
    json: Path
    out: Path = Path("runs/overfit")
    models: tuple[str, ...] = ("fasterrcnn_resnet18_fpn", "maskrcnn_resnet18_fpn")
    attentions: tuple[str, ...] = ("none", "eca")


def eight_images(data: Path, out: Path) -> Path:
    """The first eight images without crowd regions as a data set whose two parts are the same."""
    content = json.loads((data / "instances_train2017.json").read_text())
    crowded = {each["image_id"] for each in content["annotations"] if each["iscrowd"]}
    images = sorted((i for i in content["images"] if i["id"] not in crowded), key=lambda image: image["id"])[:8]
    kept = {image["id"] for image in images}
    objects = [each for each in content["annotations"] if each["image_id"] in kept]
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        some = {**content, "images": images, "annotations": objects}
        (out / f"instances_{split}2017.json").write_text(json.dumps(some))
        if not (out / f"{split}2017").exists():
            (out / f"{split}2017").symlink_to((data / "train2017").resolve())
    return out


def main() -> None:
    """Train, print, and write after every run."""
    given = tyro.cli(Arguments, description=__doc__)
    data, rows = eight_images(given.data, given.out / "data"), []
    for model in given.models:
        for attention in given.attentions:
            chosen = replace(recipe("overfit"), model=model, attention=None if attention == "none" else attention)
            job = Job(recipe=chosen, data=data, out=given.out, preset="overfit", workers=0)
            began, worked = time.perf_counter(), time.process_time()
            run(job, resume=True)
            spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
            epochs = read_metrics(job.folder)
            rows.append({"model": model, "attention": attention, **spent, "last": epochs[-1], "epochs": epochs})
            write_json(given.json, {"threads": torch.get_num_threads(), "rows": rows, "environment": environment()})


if __name__ == "__main__":
    main()

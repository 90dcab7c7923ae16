"""Detectors learn eight images of COCO by heart, from random weights: does everything work, boxes and masks?

The first eight training images by id that have no crowd region are trained and evaluated on, by the recipe overfit.

    python examples/detection_overfit.py --data COCO --json results/detection/overfit.json --pictures docs/detection
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torchvision.transforms.v2.functional import to_pil_image

from recalib.detection.checkpoints import load_detector
from recalib.detection.job import DetectionJob
from recalib.detection.prediction import draw, see
from recalib.detection.recipes import recipe
from recalib.detection.watch import open_image
from recalib.runs import environment, read_metrics, write_json
from recalib.training.lifecycle import run

# COCO's licences that allow a changed picture to be passed on, if its origin is named
FREE = {4: "CC BY 2.0", 5: "CC BY-SA 2.0", 7: "no known copyright restrictions", 8: "work of the US government"}


@dataclass(frozen=True)
class Arguments:
    """Flags of the experiment.

    Attributes:
        data: COCO, with instances_train2017.json and train2017.
        json: where results go.
        out: folder of the runs; those that were begun go on.
        models: detectors.
        attentions: modules; none for the plain backbone.
        pictures: where what each detector sees is drawn, in the images whose licence allows to pass that on.
    """

    data: Path
    json: Path
    out: Path = Path("runs/overfit")
    models: tuple[str, ...] = ("fasterrcnn_resnet18_fpn", "maskrcnn_resnet18_fpn")
    attentions: tuple[str, ...] = ("none", "eca")
    pictures: Path | None = None


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


def draw_pictures(run_folder: Path, data: Path, to: Path, name: str) -> list[dict[str, str]]:
    """What the detector of a run sees in the free images: drawn, and the picture's name, licence and origin."""
    detector, classes = load_detector(run_folder)
    to.mkdir(parents=True, exist_ok=True)
    drawn = []
    for about in json.loads((data / "instances_train2017.json").read_text())["images"]:
        if about["license"] in FREE:
            image = open_image(data / "train2017" / about["file_name"])
            file = to / f"{name}-{about['id']}.webp"
            to_pil_image(draw(image, see(detector, image), classes)).save(file, quality=85)
            drawn.append({"file": file.name, "license": FREE[about["license"]], "origin": about["flickr_url"]})
    return drawn


def main() -> None:
    """Train, print, and write after every run."""
    given = tyro.cli(Arguments, description=__doc__)
    data, rows = eight_images(given.data, given.out / "data"), []
    for model in given.models:
        for attention in given.attentions:
            chosen = replace(recipe("overfit"), model=model, attention=None if attention == "none" else attention)
            job = DetectionJob(recipe=chosen, data=data, out=given.out, preset="overfit", workers=0)
            began, worked = time.perf_counter(), time.process_time()
            run(job, resume=True)
            spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
            epochs = read_metrics(job.folder)
            row = {"model": model, "attention": attention, **spent, "last": epochs[-1], "epochs": epochs}
            if given.pictures is not None:
                row["pictures"] = draw_pictures(job.folder, data, given.pictures, f"{model.split('_')[0]}-{attention}")
            rows.append(row)
            write_json(given.json, {"threads": torch.get_num_threads(), "rows": rows, "environment": environment()})


if __name__ == "__main__":
    main()

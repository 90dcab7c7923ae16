"""A small copy of COCO for every test to spoil."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image


class Coco:
    """Six images of coco_mini as JPEG files, in COCO's official layout; `content` is what the label file will hold."""

    def __init__(self, root, source):
        self.root, self.file = root, root / "annotations" / "instances_train2017.json"
        self.images = root / "train2017"
        whole = json.loads((source / "instances_train2017.json").read_text())
        images = [{**image, "file_name": f"{image['id']:012}.jpg"} for image in whole["images"][:6]]
        self.ids = [image["id"] for image in images]
        objects = [each for each in whole["annotations"] if each["image_id"] in self.ids]
        self.content = {"images": images, "annotations": objects, "categories": whole["categories"]}
        self.images.mkdir()
        self.file.parent.mkdir()
        for image in images:
            with Image.open(source / "train2017" / f"{image['id']:012}.webp") as picture:
                picture.convert("RGB").save(self.path(image["id"]))
        self.write()

    def path(self, image_id):
        return self.images / f"{image_id:012}.jpg"

    def write(self):
        self.file.write_text(json.dumps(self.content))

    def truncate(self, image_id):
        whole = self.path(image_id).read_bytes()
        self.path(image_id).write_bytes(whole[: len(whole) // 2])


@pytest.fixture
def coco(tmp_path):
    if "RECALIB_DATA" not in os.environ:
        pytest.skip("RECALIB_DATA is not set: coco_mini is needed")
    return Coco(tmp_path, Path(os.environ["RECALIB_DATA"]) / "coco_mini")

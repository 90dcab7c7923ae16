import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recalib.data.detection_data import open_detection
from recalib.data.labels import read_annotations
from recalib.errors import RecalibError

DATA = os.environ.get("RECALIB_DATA")
real = pytest.mark.skipif(DATA is None, reason="RECALIB_DATA is not set: bdd_mini is needed")

TIMES = ("daytime", "night", "dawn/dusk", "undefined")
OLD = {"pedestrian": "person", "bicycle": "bike", "motorcycle": "motor"}


def frame(i, categories, **attributes):
    boxes = [{"x1": 10.0 * k, "y1": 20.0, "x2": 10.0 * k + 30.5, "y2": 60.0} for k in range(len(categories))]
    labels = [
        {"id": str(k), "category": name, "box2d": box}
        for k, (name, box) in enumerate(zip(categories, boxes, strict=True))
    ]
    return {"name": f"{i:08x}-{i:08x}.jpg", "attributes": {"timeofday": TIMES[i % 4], **attributes}, "labels": labels}


def write(root, layout, frames, split="val"):
    folders = {"2018": "labels", "2020": "labels/det_20"}
    names = {"2018": f"bdd100k_labels_images_{split}.json", "2020": f"det_{split}.json"}
    images, labels = root / "images" / "100k" / split, root / folders[layout]
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    (labels / names[layout]).write_text(json.dumps(frames))
    for each in frames:
        Image.new("RGB", (1280, 720)).save(images / each["name"])


def test_both_layouts_hold_the_same_boxes_under_the_names_of_2020(tmp_path):
    new = ["pedestrian", "rider", "car", "bicycle", "motorcycle", "traffic light"]
    drivable = {"category": "drivable area", "poly2d": [[[0, 0], [1, 1]]]}
    lanes = frame(1, [OLD.get(name, name) for name in new])
    lanes["labels"].insert(2, drivable)
    write(tmp_path / "2018", "2018", [lanes])
    write(tmp_path / "2020", "2020", [frame(1, new)])
    old_set, new_set = (open_detection(tmp_path / layout) for layout in ("2018", "2020"))
    assert old_set.classes == new_set.classes
    assert len(new_set.classes) == 11
    for dataset in (old_set, new_set):
        target = dataset[0][1]
        assert [dataset.classes[label] for label in target["labels"]] == new
        assert target["boxes"][1].tolist() == [10, 20, 40.5, 60]
        assert not dataset.dropped


def test_vehicles_and_people_that_the_benchmark_ignores_are_crowd_regions(tmp_path):
    crowd = frame(1, ["car", "other person", "trailer", "car"])
    crowd["labels"][3]["attributes"] = {"crowd": True}
    write(tmp_path, "2020", [crowd])
    dataset = open_detection(tmp_path)
    target = dataset[0][1]
    assert [dataset.classes[label] for label in target["labels"]] == ["car", "pedestrian", "truck", "car"]
    assert target["iscrowd"].tolist() == [0, 1, 1, 1]


def test_frames_without_labels_are_images_without_objects(tmp_path):
    frames = [frame(1, ["car"]), {"name": "a.jpg", "labels": None}, {"name": "b.jpg"}]
    write(tmp_path, "2020", frames)
    dataset = open_detection(tmp_path)
    assert [len(dataset[i][1]["boxes"]) for i in range(3)] == [1, 0, 0]
    assert dataset.attributes(1) == {}


def test_domains_split_the_images_by_what_is_known_of_them(tmp_path):
    write(tmp_path, "2018", [frame(i, ["car"], weather="clear") for i in range(8)])
    night = open_detection(tmp_path, domain={"timeofday": ("night",)})
    day = open_detection(tmp_path, domain={"timeofday": ("daytime", "dawn/dusk"), "weather": ("clear",)})
    assert [night.attributes(i)["timeofday"] for i in range(len(night))] == ["night"] * 2
    assert len(day) == 4
    assert not set(day.image_ids) & set(night.image_ids)


def test_the_split_is_that_of_the_file_name(tmp_path):
    write(tmp_path, "2020", [frame(1, ["car"])], split="train")
    write(tmp_path, "2020", [frame(2, ["car"]), frame(3, ["bus"])], split="val")
    assert [len(open_detection(tmp_path, split=split)) for split in ("train", "val")] == [1, 2]
    with pytest.raises(RecalibError, match="say which split"):
        open_detection(tmp_path)


@pytest.mark.parametrize("box", [None, {"x1": 1, "y1": 2, "x2": 3}, {"x1": "a", "y1": 0, "x2": 1, "y2": 1}])
def test_a_box_that_is_none_is_left_out_and_reported(tmp_path, box):
    spoiled = frame(1, ["car", "bus"])
    spoiled["labels"][0]["box2d"] = box
    write(tmp_path, "2020", [spoiled])
    dataset = open_detection(tmp_path)
    assert [problem.kind for problem in dataset.dropped] == ["no box"]
    assert len(dataset[0][1]["boxes"]) == 1


def test_corners_in_the_wrong_order_and_strange_categories_are_reported(tmp_path):
    spoiled = frame(1, ["car", "unicorn"])
    spoiled["labels"][0]["box2d"]["x2"] = -40
    write(tmp_path, "2020", [spoiled])
    assert {problem.kind for problem in open_detection(tmp_path).dropped} == {"inverted box", "unknown category"}


def test_a_file_that_is_neither_coco_nor_bdd_is_refused(tmp_path):
    file = tmp_path / "labels.json"
    file.write_text('[{"file": "a.jpg"}]')
    with pytest.raises(RecalibError, match="neither COCO instances nor a list of BDD100K frames"):
        open_detection(file)


@real
def test_the_nine_real_images_have_their_boxes():
    dataset = open_detection(Path(DATA) / "bdd_mini")
    assert len(dataset) == 9
    assert not dataset.dropped
    assert sum(len(dataset[i][1]["boxes"]) for i in range(9)) == 118
    assert len(open_detection(Path(DATA) / "bdd_mini", domain={"timeofday": ("dawn/dusk",)})) == 2


@real
@pytest.mark.parametrize("layout", ["2018", "2020"])
def test_labels_of_the_whole_validation_split_have_the_published_counts(tmp_path, layout):
    packed = np.load(Path(DATA) / "bdd_mini" / "val_labels.npz")
    classes = [str(name) for name in packed["classes"]]
    new = {old: name for name, old in OLD.items()} if layout == "2020" else {}
    corners, bounds = packed["xyxy"].tolist(), packed["offsets"].tolist()
    numbers, times = packed["cls"].tolist(), packed["timeofday"].tolist()
    names = [str(name) for name in packed["timeofday_names"]]
    frames = [
        {"name": f"{i}.jpg", "attributes": {"timeofday": names[times[i]]}, "labels": [
            {"category": new.get(classes[numbers[k]], classes[numbers[k]]),
             "box2d": dict(zip(("x1", "y1", "x2", "y2"), corners[k], strict=True))}
            for k in range(bounds[i], bounds[i + 1])]}
        for i in range(len(times))
    ]  # fmt: skip
    file = tmp_path / ("det_val.json" if layout == "2020" else "bdd100k_labels_images_val.json")
    file.write_text(json.dumps(frames))
    found = read_annotations(file)
    counts = np.bincount([each["category_id"] for each in found.objects])
    published = {"car": 102506, "traffic sign": 34908, "traffic light": 26885, "pedestrian": 13262, "truck": 4245,
                 "bus": 1597, "bicycle": 1007, "rider": 649, "motorcycle": 452, "train": 15}  # fmt: skip
    assert {name: counts[number] for number, name in found.categories.items()} == published
    known = [image["attributes"].get("timeofday") for image in found.images]
    assert [known.count(name) for name in TIMES] == [5258, 3929, 778, 35]

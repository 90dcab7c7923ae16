import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from recalib.data.detection_data import learnable, open_detection
from recalib.errors import RecalibError, WorkFailed

DATA = os.environ.get("RECALIB_DATA")
real = pytest.mark.skipif(DATA is None, reason="RECALIB_DATA is not set: coco_mini is needed")

SPOILED = {  # what is wrong with the first object, and how it is called
    "box not finite": {"bbox": [1.0, float("nan"), 5.0, 5.0]},
    "inverted box": {"bbox": [50.0, 50.0, -20.0, 10.0]},
    "empty box": {"bbox": [50.0, 50.0, 0.0, 10.0]},
    "no box": {"bbox": [1, 2, 3]},
    "box outside of the image": {"bbox": [5000.0, 10.0, 20.0, 20.0]},
    "unknown category": {"category_id": 12},
    "unknown image": {"image_id": 424242},
}


def same(one, other):
    return all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


def test_boxes_are_corners_and_labels_count_the_categories_in_order(coco):
    dataset = open_detection(coco.root)
    image, target = dataset[0]
    first = [each for each in coco.content["annotations"] if each["image_id"] == coco.ids[0]]
    expected = np.array([[x, y, x + w, y + h] for x, y, w, h in (each["bbox"] for each in first)], np.float32)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 336, 448)
    assert target["boxes"].dtype == torch.float32
    assert np.allclose(target["boxes"], expected, atol=1e-4)
    assert [dataset.category_ids[label] for label in target["labels"]] == [each["category_id"] for each in first]
    assert dataset.classes[:3] == ("__background__", "person", "bicycle")
    assert len(dataset.classes) == 81
    assert target["image_id"] == dataset.image_ids[0] == coco.ids[0]


def test_images_come_in_the_order_of_their_ids(coco):
    coco.content["images"].reverse()
    coco.write()
    assert open_detection(coco.root).image_ids == sorted(coco.ids)


@pytest.mark.parametrize("where", ["annotations beside images", "labels beside images", "images folder", "the file"])
def test_every_layout_holds_the_same_data(coco, where):
    expected = open_detection(coco.root, masks=True)[2]
    path = coco.root
    if where == "labels beside images":
        coco.file.rename(coco.root / coco.file.name)
    elif where == "images folder":
        (coco.root / "images").mkdir()
        coco.images.rename(coco.root / "images" / "train2017")
    elif where == "the file":
        path = coco.file
    image, target = open_detection(path, masks=True)[2]
    assert torch.equal(image, expected[0])
    assert same(target, expected[1])


def test_a_folder_with_several_splits_asks_which(coco):
    shutil.copy(coco.file, coco.file.with_name("instances_val2017.json"))
    with pytest.raises(RecalibError, match=r"instances_val2017\.json and instances_train2017\.json: say which split"):
        open_detection(coco.root)
    assert len(open_detection(coco.root, split="train")) == len(open_detection(coco.root, split="train2017")) == 6
    with pytest.raises(RecalibError, match=r"unknown split 'val2014'; did you mean val2017"):
        open_detection(coco.root, split="val2014")


def test_what_is_no_detection_data_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(RecalibError, match="holds no detection data: neither COCO"):
        open_detection(tmp_path)
    file = tmp_path / "instances_val.json"
    file.write_text('{"images": [1], "annotations": [], "categories": []}')
    with pytest.raises(RecalibError, match="is no COCO instances file"):
        open_detection(file)
    file.write_text("{")
    with pytest.raises(RecalibError, match=r"instances_val\.json cannot be read"):
        open_detection(file)


@real
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_of_every_object_are_those_of_pycocotools(split):
    from pycocotools.coco import COCO

    dataset = open_detection(Path(DATA) / "coco_mini", split=split, masks=True)
    oracle, crowds = COCO(dataset.annotations.source), 0
    for i in range(0, len(dataset), 3):
        target = dataset.target(i)
        objects = oracle.imgToAnns[target["image_id"]]
        crowds += int(target["iscrowd"].sum())
        assert all(
            np.array_equal(mask, oracle.annToMask(each))
            for mask, each in zip(target["masks"], objects, strict=True)
        )  # fmt: skip
    assert crowds > 0


def test_crowd_regions_are_given_but_not_learned_from(coco):
    coco.content["annotations"][1]["iscrowd"] = 1
    coco.write()
    target = open_detection(coco.root, masks=True)[0][1]
    learned = learnable(target)
    assert target["iscrowd"].tolist()[1] == 1
    assert len(learned["boxes"]) == len(learned["masks"]) == len(target["boxes"]) - 1
    assert torch.equal(learned["boxes"][1], target["boxes"][2])
    assert learned["image_id"] == target["image_id"]


@pytest.mark.parametrize("kind", SPOILED)
def test_an_object_that_is_wrong_is_left_out_and_reported(coco, kind):
    whole = open_detection(coco.root)[0][1]["boxes"]
    coco.content["annotations"][0].update(SPOILED[kind])
    coco.write()
    dataset = open_detection(coco.root)
    number = coco.content["annotations"][0]["id"]
    assert [problem.kind for problem in dataset.dropped] == [kind]
    assert f"object {number} " in dataset.dropped[0].where
    assert torch.equal(dataset[0][1]["boxes"], whole[1:])


@pytest.mark.parametrize("kind", SPOILED)
def test_strict_refuses_what_is_wrong(coco, kind):
    coco.content["annotations"][0].update(SPOILED[kind])
    coco.write()
    with pytest.raises(WorkFailed, match=kind):
        open_detection(coco.root, strict=True)


def test_of_two_objects_or_images_with_one_id_the_first_is_kept(coco):
    objects, images = coco.content["annotations"], coco.content["images"]
    objects[1]["id"] = objects[0]["id"]
    images.append({**images[0], "file_name": "other.jpg"})
    coco.write()
    dataset = open_detection(coco.root)
    assert [problem.kind for problem in dataset.dropped] == ["duplicate id", "duplicate id"]
    assert len(dataset) == 6
    assert dataset.file(0) == coco.path(coco.ids[0])
    assert dataset[0][1]["boxes"][0].tolist()[:2] == pytest.approx(objects[0]["bbox"][:2])


def test_a_box_that_reaches_out_of_its_image_is_cut_off_at_the_edge(coco):
    coco.content["annotations"][0]["bbox"] = [400.0, -30.0, 100.0, 60.0]
    coco.write()
    dataset = open_detection(coco.root)
    assert dataset[0][1]["boxes"][0].tolist() == [400, 0, 448, 30]
    assert [problem.kind for problem in dataset.dropped] == ["box outside of the image"]


def test_a_box_within_a_pixel_of_the_edge_stays_as_it_is(coco):
    coco.content["annotations"][0]["bbox"] = [400.0, 10.0, 48.6, 60.0]
    coco.write()
    dataset = open_detection(coco.root)
    assert dataset[0][1]["boxes"][0, 2].item() == pytest.approx(448.6)
    assert not dataset.dropped


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 2, 3, 4]], {"size": [3, 3], "counts": [9]}, "none", [["a"] * 6]]
)
def test_masks_are_asked_for_only_where_they_are_wanted(coco, segmentation):
    coco.content["annotations"][0]["segmentation"] = segmentation
    coco.write()
    assert not open_detection(coco.root).dropped
    dataset = open_detection(coco.root, masks=True)
    assert [problem.kind for problem in dataset.dropped] == ["no mask"]
    assert len(dataset[0][1]["masks"]) == len(dataset[0][1]["boxes"])


def test_missing_images_are_left_out_and_named(coco):
    coco.path(coco.ids[2]).unlink()
    dataset = open_detection(coco.root)
    assert len(dataset) == 5
    assert [(problem.kind, problem.detail) for problem in dataset.dropped] == [
        ("missing image", str(coco.path(coco.ids[2])))
    ]
    with pytest.raises(WorkFailed, match=rf"missing image: image {coco.ids[2]}"):
        open_detection(coco.root, strict=True)


def test_a_data_set_without_any_image_is_refused(coco):
    shutil.rmtree(coco.images)
    with pytest.raises(RecalibError, match=r"leaves no image to use: missing image"):
        open_detection(coco.root)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image_is_replaced_by_the_next_and_named_once_whoever_reads(coco, workers):
    coco.truncate(coco.ids[1])
    dataset = open_detection(coco.root)
    for _ in range(2):
        loader = DataLoader(dataset, 3, num_workers=workers, collate_fn=list)
        batches = list(loader)
        for batch in batches:
            dataset.note([target for _, target in batch])
    read = [target["image_id"] for batch in batches for _, target in batch]
    assert read == [coco.ids[0], coco.ids[2], *coco.ids[2:]]
    assert dataset.unreadable == [str(coco.path(coco.ids[1]))]


def test_an_image_of_another_size_than_its_labels_tell_counts_as_unreadable(coco):
    coco.content["images"][1]["width"] += 10
    coco.write()
    assert open_detection(coco.root)[1][1]["instead_of"] == coco.ids[1]


def test_strict_stops_at_a_truncated_image(coco):
    coco.truncate(coco.ids[1])
    with pytest.raises(WorkFailed, match=coco.path(coco.ids[1]).name):
        open_detection(coco.root, strict=True)[1]


def test_no_readable_image_at_all_is_said(coco):
    for image_id in coco.ids:
        coco.truncate(image_id)
    with pytest.raises(WorkFailed, match=r"no image in .* can be read"):
        open_detection(coco.root)[0]


def test_a_domain_keeps_the_images_that_have_one_of_its_values(coco):
    for image, time in zip(coco.content["images"], ["night", "day", "dusk", "night", None, "day"], strict=True):
        image["attributes"] = {"timeofday": time}
    coco.write()
    dataset = open_detection(coco.root, domain={"timeofday": ("day", "dusk")})
    assert dataset.image_ids == [coco.ids[1], coco.ids[2], coco.ids[5]]
    assert dataset.attributes(1) == {"timeofday": "dusk"}
    with pytest.raises(RecalibError, match="unknown timeofday 'nigth'; did you mean night"):
        open_detection(coco.root, domain={"timeofday": ("nigth",)})
    with pytest.raises(RecalibError, match="unknown attribute of the images 'time'; did you mean timeofday"):
        open_detection(coco.root, domain={"time": ("night",)})


def test_a_domain_of_images_without_attributes_is_refused(coco):
    with pytest.raises(RecalibError, match="tells no attributes of its images"):
        open_detection(coco.root, domain={"timeofday": ("night",)})


def test_images_without_objects_have_empty_targets(coco):
    coco.content["annotations"] = []
    coco.file.write_text(json.dumps(coco.content))
    target = open_detection(coco.root, masks=True)[0][1]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["masks"].shape == (0, 336, 448)

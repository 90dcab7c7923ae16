import json

import pytest
import torch
from PIL import Image
from torch import nn

from recalib.data.detection_data import open_detection
from recalib.detection.average_precision import average_precision
from recalib.detection.evaluation import detect, evaluate, joined, summary
from recalib.detection.results import read_results
from recalib.errors import RecalibError


class Knowing(nn.Module):
    """Sees what there is, by the order in which it is shown the images."""

    def __init__(self, dataset, order=None, masks=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.dataset, self.masks, self.shown = dataset, masks, 0
        self.order = order or range(len(dataset.classes))

    def forward(self, images):
        assert not self.training
        assert all(image.dtype == torch.float32 and image.max() <= 1 for image in images)
        return [self._answer() for _ in images]

    def _answer(self):
        target = self.dataset.target(self.shown)
        self.shown += 1
        labels = torch.tensor([self.order[label] for label in target["labels"]])
        answer = {"boxes": target["boxes"], "labels": labels, "scores": torch.ones(len(labels))}
        return {**answer, "masks": target["masks"][:, None].float()} if self.masks else answer


@pytest.fixture
def squares(tmp_path):
    """Two images, categories 3 and 17 of COCO."""
    (tmp_path / "val2017").mkdir()
    corners = {"segmentation": [[4, 4, 44, 4, 44, 44, 4, 44]], "bbox": [4, 4, 40, 40], "iscrowd": 0}
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (5, 8)],
        "annotations": [{"id": i, "image_id": i, "category_id": c, **corners} for i, c in ((5, 17), (8, 3))],
        "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
    }
    (tmp_path / "instances_val2017.json").write_text(json.dumps(content))
    for i in (5, 8):
        Image.new("RGB", (64, 48)).save(tmp_path / "val2017" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("batch", [1, 2])
def test_a_detector_that_knows_everything_is_perfect(squares, batch):
    dataset = open_detection(squares, masks=True)
    model = Knowing(dataset, masks=True).train()
    found = evaluate(model, dataset, iou_types=("bbox", "segm"), batch=batch)
    assert found["AP"] == found["segm"]["AP"] == pytest.approx(1)
    assert found["images"] == 2
    assert model.training


def test_results_carry_the_data_sets_own_ids_and_are_read_back(squares, tmp_path):
    dataset = open_detection(squares, masks=True)
    results, truth = detect(Knowing(dataset, masks=True), dataset, iou_types=("bbox", "segm"))
    assert [(each["image_id"], each["category_id"]) for each in results["bbox"]] == [(5, 17), (8, 3)]
    assert results["bbox"][0]["bbox"] == [4, 4, 40, 40]
    assert "bbox" not in results["segm"][0]
    for iou_type, found in results.items():
        file = tmp_path / f"{iou_type}.json"
        file.write_text(json.dumps(found))
        again = average_precision(truth, read_results(file, truth), iou_type)
        assert again == average_precision(truth, found, iou_type)


def test_an_image_that_cannot_be_read_is_left_out_on_both_sides(squares):
    (squares / "val2017" / "8.png").write_bytes(b"no image")
    dataset = open_detection(squares)
    found = evaluate(Knowing(dataset), dataset)
    assert found["images"] == 1
    assert found["AP"] == pytest.approx(1)
    assert dataset.unreadable == [str(squares / "val2017" / "8.png")]


def test_classes_of_a_detector_may_be_in_another_order(squares):
    dataset = open_detection(squares)
    model = Knowing(dataset, order=[0, 2, 1])
    names = ("__background__", dataset.classes[2], dataset.classes[1])
    results, truth = detect(model, dataset, classes=names)
    assert summary(results, truth)["AP"] == pytest.approx(1)


def test_other_classes_are_refused_by_name(squares):
    dataset = open_detection(squares)
    with pytest.raises(RecalibError, match="differ in their classes: car, dog in one only"):
        detect(Knowing(dataset), dataset, classes=("__background__", "cat", "dog"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 5}, "detection 0 lacks image_id, category_id or score"),
        ({"image_id": 6, "category_id": 3, "score": 1.0}, "detection 0 is of image 6"),
        ({"image_id": [5], "category_id": 3, "score": 1.0}, "not whole numbers"),
        ({"image_id": 5, "category_id": 3, "score": float("nan"), "bbox": [1, 2, 3, 4]}, "not finite numbers"),
        ({"image_id": 5, "category_id": 3, "score": 1.0, "bbox": [1, 2, 3]}, "not finite numbers"),
        ({"image_id": 5, "category_id": 3, "score": 1.0, "segmentation": {"size": [1, 1], "counts": "0"}}, "a mask"),
        (
            {"image_id": 5, "category_id": 3, "score": 1.0, "segmentation": {"size": [48, 64], "counts": "zzz"}},
            "a mask",
        ),
    ],
)
def test_a_result_file_that_is_none_is_refused_with_the_entry(squares, tmp_path, entry, message):
    file = tmp_path / "results.json"
    file.write_text(json.dumps([entry]))
    with pytest.raises(RecalibError, match=message):
        read_results(file, open_detection(squares).annotations)


def test_a_result_file_that_is_no_list_is_refused(squares, tmp_path):
    file = tmp_path / "results.json"
    file.write_text("{}")
    with pytest.raises(RecalibError, match="should be a list of detections"):
        read_results(file, open_detection(squares).annotations)


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_the_images_join_to_the_whole(squares, world):
    dataset = open_detection(squares, masks=True)
    (squares / "val2017" / "5.png").write_bytes(b"broken")
    whole = detect(Knowing(dataset), dataset)
    parts = []
    for rank in range(world):
        model = Knowing(dataset)
        parts.append(detect(model, dataset, share=(rank, world)))
    assert [len(found["bbox"]) for found, _ in parts] == [0, 1, 0][:world]
    assert joined(parts, dataset) == whole

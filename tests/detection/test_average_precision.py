import contextlib
import copy
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from recalib.data.annotations import Annotations
from recalib.data.labels import read_annotations
from recalib.detection.average_precision import FIGURES, average_precision
from recalib.detection.results import read_results
from recalib.errors import RecalibError

DATA = os.environ.get("RECALIB_DATA")
real = pytest.mark.skipif(DATA is None, reason="RECALIB_DATA is not set: coco_mini is needed")
silent = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools


def truth_of(objects, images=2, **attributes):
    pictures = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in range(1, images + 1)]
    for name, values in attributes.items():
        for picture, value in zip(pictures, values, strict=True):
            picture["attributes"] = {name: value}
    return Annotations(Path("labels.json"), Path(), tuple(pictures), tuple(objects), {7: "cat", 9: "dog"})


def thing(image, x, category=7, **more):
    return {"image_id": image, "category_id": category, "bbox": [x, 10, 40, 40], **more}


@pytest.fixture(scope="module")
def published():
    """Detections of a real detector on coco_mini, and the objects there are."""
    folder = Path(DATA) / "coco_mini"
    truth = read_annotations(folder, "val")
    return truth, read_results(folder / "fastestdet_val2017_results.json", truth)


def oracle(truth, results, iou_type, images=None):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth.source)
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), iou_type)
        evaluator.params.imgIds = images or evaluator.params.imgIds
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@real
def test_boxes_of_a_published_result_file_get_its_published_figures(published):
    stats = json.loads((Path(DATA) / "coco_mini" / "fastestdet_val2017_stats.json").read_text())
    found = average_precision(*published, "bbox")
    assert {name: found[name] for name in FIGURES} == pytest.approx(stats, abs=1e-12)


@real
@silent
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("form", ["as published", "official"])
def test_every_figure_is_that_of_pycocotools(published, iou_type, form):
    truth, results = published
    if form == "official":  # results of masks have no boxes, those of boxes no masks
        without = "bbox" if iou_type == "segm" else "segmentation"
        results = [{key: value for key, value in each.items() if key != without} for each in results]
    expected, found = oracle(truth, results, iou_type), average_precision(truth, results, iou_type)
    assert [found[name] for name in FIGURES] == pytest.approx(expected.stats.tolist(), abs=1e-6)
    assert found["AP"] > 0.05
    precision = expected.eval["precision"]
    for k, name in enumerate(truth.categories.values()):
        for figure, mine in (("AP", precision[:, :, k, 0, -1]), ("AP50", precision[0, :, k, 0, -1])):
            there = mine[mine > -1]
            assert found["per_class"][name][figure] == pytest.approx(there.mean() if there.size else -1, abs=1e-6)


@real
@silent
def test_each_domain_gets_the_figures_of_its_images_alone(published):
    truth, results = published
    times = ["night" if i % 3 else "day" for i in range(len(truth.images))]
    images = [{**image, "attributes": {"time": t}} for image, t in zip(truth.images, times, strict=True)]
    split = Annotations(truth.source, truth.folder, tuple(images), truth.objects, truth.categories)
    found = average_precision(split, results, "bbox")
    for time in ("day", "night"):
        mine = [image["id"] for image, t in zip(truth.images, times, strict=True) if t == time]
        expected, figures = oracle(truth, results, "bbox", mine), found["per_domain"]["time"][time]
        assert [figures[name] for name in FIGURES] == pytest.approx(expected.stats.tolist(), abs=1e-6)
        assert figures["images"] == len(mine)
    assert found["AP"] == average_precision(truth, results, "bbox")["AP"]


@real
def test_torchmetrics_agrees_once_its_recall_thresholds_are_not_rounded(published):
    from torchmetrics.detection import MeanAveragePrecision

    truth, results = published

    def tensors(entries):
        boxes = torch.tensor([each["bbox"] for each in entries], dtype=torch.float64).reshape(-1, 4)
        facts = {"boxes": boxes, "labels": torch.tensor([each["category_id"] for each in entries], dtype=torch.int64)}
        for name, key in (("scores", "score"), ("area", "area"), ("iscrowd", "iscrowd")):
            if all(key in each for each in entries):
                facts[name] = torch.tensor([each[key] for each in entries], dtype=torch.float64)
        return facts

    def ap(**thresholds):
        metric = MeanAveragePrecision("xywh", backend="faster_coco_eval", **thresholds)
        metric.warn_on_many_detections = False
        for image in truth.images:
            both = ([each for each in part if each["image_id"] == image["id"]] for part in (results, truth.objects))
            seen, there = map(tensors, both)
            metric.update([seen], [there])
        return metric.compute()["map"].item()

    expected = average_precision(truth, results, "bbox")["AP"]
    assert ap(rec_thresholds=np.linspace(0, 1, 101).tolist()) == pytest.approx(expected, abs=1e-6)
    assert abs(ap() - expected) > 5e-5


def test_finding_everything_is_perfect_whatever_the_order_and_ids():
    objects = [thing(1, 0, id=0), thing(1, 100, 9, id=1), thing(2, 50, id=2)]
    results = [{**each, "score": 0.5 + each["id"] / 10} for each in reversed(objects)]
    found = average_precision(truth_of(objects), results, "bbox")
    assert found["AP"] == found["AP50"] == found["AR100"] == pytest.approx(1)
    assert found["per_class"] == {"cat": {"AP": 1, "AP50": 1}, "dog": {"AP": 1, "AP50": 1}}


def test_finding_nothing_is_zero_and_no_objects_are_minus_one():
    objects = [thing(1, 0)]
    found = average_precision(truth_of(objects), [], "bbox")
    assert found["AP"] == 0
    assert found["APs"] == -1
    assert found["per_class"]["dog"]["AP"] == -1
    assert average_precision(truth_of([]), [], "bbox")["AP"] == -1


def test_detections_in_a_crowd_count_neither_way_and_crowds_need_not_be_found():
    crowd = {"image_id": 1, "category_id": 7, "bbox": [100, 0, 100, 100], "iscrowd": 1}
    inside = [thing(1, x, score=0.9) for x in (100, 110, 120)]
    outside = [thing(2, 100, score=0.9)]
    found = [thing(1, 0, score=0.5)]
    assert average_precision(truth_of([thing(1, 0), crowd]), found + inside, "bbox")["AP"] == pytest.approx(1)
    assert average_precision(truth_of([thing(1, 0), crowd]), found, "bbox")["AP"] == pytest.approx(1)
    assert average_precision(truth_of([thing(1, 0), crowd]), found + outside, "bbox")["AP"] == pytest.approx(0.5)


def test_classes_that_the_data_do_not_have_are_ignored_as_by_cocos_tools():
    results = [thing(1, 0, score=0.5), thing(1, 100, 88, score=0.9)]
    assert average_precision(truth_of([thing(1, 0)]), results, "bbox")["AP"] == pytest.approx(1)


def test_objects_that_are_wrong_are_no_objects():
    wrong = thing(2, float("nan"))
    assert average_precision(truth_of([thing(1, 0), wrong]), [thing(1, 0, score=1.0)], "bbox")["AP"] == pytest.approx(1)


def test_detections_and_masks_where_there_are_no_objects_lower_precision():
    square = [[10, 10, 50, 10, 50, 50, 10, 50]]
    objects = [thing(1, 10, segmentation=square)]
    results = [{**thing(2, 10, score=0.9), "segmentation": square}, {**objects[0], "score": 0.5}]
    for iou_type in ("bbox", "segm"):
        found = average_precision(truth_of(objects), copy.deepcopy(results), iou_type)
        assert found["AP50"] == pytest.approx(0.5)


def test_results_of_other_images_are_refused():
    with pytest.raises(RecalibError, match=r"the results are of image 5, which labels\.json does not have"):
        average_precision(truth_of([thing(1, 0)]), [thing(5, 0, score=1.0)], "bbox")


def test_results_without_masks_have_no_mask_figures():
    with pytest.raises(RecalibError, match="the results have no segmentation"):
        average_precision(truth_of([thing(1, 0)]), [thing(1, 0, score=1.0)], "segm")


def test_results_are_left_as_they_are():
    results = [thing(1, 0, score=0.5)]
    before = copy.deepcopy(results)
    average_precision(truth_of([thing(1, 0)]), results, "bbox")
    assert results == before


def test_figures_are_means_over_classes():
    objects = [thing(1, 0), thing(1, 100, 9)]
    found = average_precision(truth_of(objects), [thing(1, 0, score=1.0)], "bbox")
    assert found["AP"] == pytest.approx(np.mean([each["AP"] for each in found["per_class"].values()]))
    assert found["AP"] == pytest.approx(0.5)

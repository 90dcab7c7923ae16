"""Training batches: every image, in an order of the epoch, changed together with its boxes and masks."""

import json
import shutil

import pytest
import torch

from recalib.data.detection_data import open_detection
from recalib.detection.feed import DetectionFeed
from recalib.errors import RecalibError


@pytest.fixture(scope="module")
def dataset(shapes):
    return open_detection(shapes, split="train", masks=True)


def ids(batches):
    return [[target["image_id"] for target in targets] for _, targets in batches]


def in_order(batches):
    return [image_id for batch in ids(batches) for image_id in batch]


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(dataset):
    feed = DetectionFeed(dataset, batch=4)
    orders = [in_order(feed.epoch(epoch)) for epoch in range(4)]
    assert all(sorted(order) == [1, 2, 3, 4, 5, 6] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_a_repeated_epoch_has_every_image_that_often(dataset):
    feed = DetectionFeed(dataset.subset(range(5)), batch=4, repeat=3)
    assert len(feed) == 4
    seen = in_order(feed.epoch(0))
    assert sorted(seen) == sorted([1, 2, 3, 4, 5] * 3)
    assert sorted(seen[:5]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("augment", ["none", "flip", "ssd"])
def test_an_epoch_can_be_entered_at_any_step(dataset, augment):
    feed = DetectionFeed(dataset, batch=2, augment=augment, seed=3)
    whole, tail = list(feed.epoch(1)), list(feed.epoch(1, start=1))
    for (images, targets), (later, others) in zip(whole[1:], tail, strict=True):
        for a, b in zip(images, later, strict=True):
            assert torch.equal(a, b)
        for a, b in zip(targets, others, strict=True):
            assert torch.equal(a["boxes"], b["boxes"])


def test_processes_share_each_batch(dataset):
    parts = [DetectionFeed(dataset, batch=4, share=(rank, 2)) for rank in range(2)]
    together = [sorted(a + b) for a, b in zip(*(ids(part.epoch(0)) for part in parts), strict=True)]
    assert together == [sorted(batch) for batch in ids(DetectionFeed(dataset, batch=4).epoch(0))]


def test_a_flipped_image_has_its_box_and_mask_flipped(dataset):
    plain = {t["image_id"]: (i, t) for images, targets in DetectionFeed(dataset, batch=2).epoch(0)
             for i, t in zip(images, targets, strict=True)}  # fmt: skip
    flipped = 0
    for images, targets in DetectionFeed(dataset, batch=2, augment="flip", repeat=3).epoch(0):
        for image, target in zip(images, targets, strict=True):
            original, before = plain[target["image_id"]]
            if not torch.equal(image, original):
                flipped += 1
                assert torch.equal(image, original.flip(-1))
                assert torch.equal(target["masks"], before["masks"].flip(-1))
                assert torch.equal(target["boxes"], 64 * torch.tensor([1, 0, 1, 0]) + before["boxes"][:, [2, 1, 0, 3]]
                                   * torch.tensor([-1, 1, -1, 1]))  # fmt: skip
    assert 0 < flipped < 18


def test_after_zooming_and_cropping_boxes_still_fit_their_shapes(dataset):
    for images, targets in DetectionFeed(dataset, batch=2, augment="ssd", repeat=4).epoch(0):
        for image, target in zip(images, targets, strict=True):
            height, width = image.shape[1:]
            for box, mask in zip(target["boxes"], target["masks"], strict=True):
                ys, xs = mask.nonzero(as_tuple=True)
                assert (box >= 0).all()
                assert box[2] <= width
                assert box[3] <= height
                edges = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                torch.testing.assert_close(box, edges.float(), rtol=0, atol=1.5)


def test_crowd_regions_are_not_trained_on(shapes, tmp_path):
    copy = shutil.copytree(shapes, tmp_path / "copy")
    file = copy / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": [0, 64 * 64]}
    file.write_text(json.dumps(content))
    feed = DetectionFeed(open_detection(copy, split="train"), batch=6)
    counts = {t["image_id"]: len(t["boxes"]) for _, targets in feed.epoch(0) for t in targets}
    assert counts == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1}


def test_targets_tell_the_domain(dataset):
    for _, targets in DetectionFeed(dataset, batch=2).epoch(0):
        for target in targets:
            assert target["domain"] == {"timeofday": "night" if target["image_id"] % 3 else "daytime"}


def test_a_batch_that_leaves_a_process_without_images_is_refused(dataset):
    with pytest.raises(RecalibError, match="gives 8 processes no batch"):
        DetectionFeed(dataset, batch=8, share=(0, 8))

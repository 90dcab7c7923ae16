import pytest
import torch
from PIL import Image

from recalib.data.wrapped import wrap_detection
from recalib.errors import RecalibError, WorkFailed

BOX = [4.0, 5.0, 24.0, 30.0]


class Items:
    """A PIL image, a uint8 tensor and a float tensor, with one object each."""

    def __init__(self, **changes):
        self.changes = changes

    def __len__(self):
        return 3

    def __getitem__(self, place):
        plain = torch.full((3, 40, 60), 51, dtype=torch.uint8)
        image = [Image.new("RGB", (60, 40), (51, 51, 51)), plain, plain / 255][place]
        masks = torch.zeros(1, 40, 60, dtype=torch.uint8)
        masks[:, 5:30, 4:24] = 1
        target = {"boxes": torch.tensor([BOX]), "labels": torch.tensor([1 + place % 2]), "masks": masks}
        if place == 1:
            if self.changes.get("broken"):
                raise OSError("image file is truncated")
            target |= self.changes
        return image, target


def test_items_are_images_and_targets_like_any_other():
    dataset = wrap_detection(Items(), ("cat", "dog"), masks=True)
    assert dataset.classes == ("__background__", "cat", "dog")
    assert not dataset.dropped
    for place in range(3):
        image, target = dataset[place]
        assert image.dtype == torch.uint8
        assert image.unique().tolist() == [51]
        assert target["boxes"].tolist() == [BOX]
        assert target["labels"].tolist() == [1 + place % 2]
        assert torch.equal(target["masks"], Items()[place][1]["masks"])
        assert target["image_id"] == place


def test_ids_areas_and_crowds_are_taken_over():
    told = {"image_id": torch.tensor(77), "area": torch.tensor([12.5]), "iscrowd": torch.tensor([1])}
    dataset = wrap_detection(Items(**told), ("cat", "dog"))
    target = dataset[dataset.image_ids.index(77)][1]
    assert target["area"].tolist() == [12.5]
    assert target["iscrowd"].tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"boxes": torch.tensor([[4.0, float("nan"), 5, 6]])}, "box not finite"),
        ({"boxes": torch.tensor([[9.0, 9, 5, 20]])}, "inverted box"),
        ({"labels": torch.tensor([3])}, "unknown category"),
        ({"broken": True}, "broken image"),
    ],
)
def test_what_is_wrong_is_left_out_and_reported_or_refused(changes, kind):
    dataset = wrap_detection(Items(**changes), ("cat", "dog"))
    assert [problem.kind for problem in dataset.dropped] == [kind]
    assert sum(len(dataset[i][1]["boxes"]) for i in range(len(dataset))) == 2
    with pytest.raises(WorkFailed, match=kind):
        wrap_detection(Items(**changes), ("cat", "dog"), strict=True)


def test_targets_without_boxes_are_refused():
    with pytest.raises(RecalibError, match=r"item 0: its target has labels; boxes and labels are needed"):
        wrap_detection([(torch.zeros(3, 8, 8), {"labels": torch.tensor([1])})], ("cat",))

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recalib.data.masks import mask_of
from recalib.detection.prediction import COLORS, Seen, draw, makes_masks, see
from recalib.detection.watch import animation, keep_frame, open_image
from recalib.errors import RecalibError

CLASSES = ("__background__", "cat", "<b>dog</b>")


class Fixed(nn.Module):
    """Sees the same three things everywhere; the scores are those it is given."""

    def __init__(self, scores=(0.9, 0.6, 0.2)):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, images):
        assert not self.training
        boxes = torch.tensor([[4.0, 10, 30, 40], [40, 20, 60, 50], [0, 0, 5, 5]])
        masks = torch.zeros(3, 1, *images[0].shape[1:])
        masks[0, :, 15:30, 10:20] = 0.8
        return [{"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "scores": self.scores, "masks": masks}]


@pytest.fixture
def image():
    return torch.full((3, 64, 96), 128, dtype=torch.uint8)


def rgb(color):
    return torch.tensor([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)


def test_what_is_less_certain_than_the_score_is_left_out(image):
    model = Fixed().train()
    assert see(model, image).scores.tolist() == pytest.approx([0.9, 0.6])
    assert len(see(model, image, score=0.1).boxes) == 3
    assert model.training


def test_objects_are_boxes_names_and_masks_as_coco_writes_them(image):
    first, second = see(Fixed(), image).objects(CLASSES)
    assert first["category"] == "cat"
    assert first["bbox"] == [4, 10, 26, 30]
    assert second["category"] == "<b>dog</b>"
    mask = mask_of(first["segmentation"], 64, 96)
    assert mask.sum() == mask[15:30, 10:20].sum() == 150


def test_boxes_and_masks_are_drawn_in_the_colour_of_their_class(image):
    drawn = draw(image, see(Fixed(), image), CLASSES)
    assert torch.equal(drawn[:, 35, 4], rgb(COLORS[0]))
    assert torch.equal(drawn[:, 45, 40], rgb(COLORS[1]))
    assert torch.allclose(drawn[:, 28, 15].float(), (rgb(COLORS[0]).float() + 128) / 2, atol=1)
    assert torch.equal(drawn[:, 60, 80], image[:, 60, 80])


def test_a_picture_without_objects_stays_as_it_is(image):
    assert torch.equal(draw(image, see(Fixed(), image, score=0.95), CLASSES), image)


def test_detectors_without_masks_draw_boxes_alone(image):
    seen = see(Fixed(), image)
    boxes = Seen(seen.boxes, seen.labels, seen.scores, None)
    drawn = draw(image, boxes, CLASSES)
    assert torch.equal(drawn[:, 28, 15], image[:, 28, 15])
    assert "segmentation" not in boxes.objects(CLASSES)[0]


def test_which_detectors_make_masks():
    from torchvision.models import detection

    plain = {"weights": None, "weights_backbone": None}
    assert not makes_masks(detection.ssdlite320_mobilenet_v3_large(**plain))
    assert makes_masks(detection.maskrcnn_resnet50_fpn(**plain))


def test_the_animation_shows_every_epoch_in_order(image, tmp_path):
    for epoch, scores in enumerate([(0.1, 0.1, 0.1), (0.9, 0.1, 0.1), (0.9, 0.9, 0.9)]):
        keep_frame(Fixed(scores), image, CLASSES, tmp_path, epoch)
    assert animation(tmp_path, tmp_path / "training.gif") == 3
    with Image.open(tmp_path / "training.gif") as gif:
        assert gif.n_frames == 3
        frames = [np.asarray((gif.seek(i), gif.convert("RGB"))[1], int) for i in range(3)]
    changed = [int((np.abs(a - b).max(-1) > 40).sum()) for a, b in pairwise(frames)]
    assert min(changed) > 30


def test_an_epoch_that_is_made_again_replaces_its_picture(image, tmp_path):
    for scores in ((0.1, 0.1, 0.1), (0.9, 0.9, 0.9)):
        keep_frame(Fixed(scores), image, CLASSES, tmp_path, 0)
    assert animation(tmp_path, tmp_path / "training.gif") == 1
    assert not torch.equal(open_image(tmp_path / "watch" / "epoch_0000.png"), image)


def test_a_run_that_watched_nothing_is_said(tmp_path):
    with pytest.raises(RecalibError, match="kept no pictures of its epochs: train with --watch IMAGE"):
        animation(tmp_path, tmp_path / "training.gif")


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(RecalibError, match=r"a\.jpg is no image that can be read"):
        open_image(tmp_path / "a.jpg")

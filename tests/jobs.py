"""Jobs of seconds, one a task, and what a run of any task ends with."""

import json
from dataclasses import fields

import torch
from safetensors.torch import load_file
from torchvision.models._api import register_model
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.cli import main
from recalib.detection.detectors import DETECTORS, DetectorSpec
from recalib.detection.job import DetectionJob
from recalib.detection.recipes import DetectionRecipe
from recalib.models import create_model
from recalib.runs import read_state
from recalib.segmentation import networks
from recalib.segmentation.job import SegmentationJob
from recalib.segmentation.recipes import SegmentationRecipe
from recalib.training.lifecycle import run


def _tiny(_weights, _norms):
    """A Faster R-CNN of 200,000 parameters: its checkpoints are written in no time."""
    body = create_model("cifar_resnet8")
    del body.fc

    def finish(num_classes, settings):
        pyramid = BackboneWithFPN(body, {f"layer{i}": str(i) for i in (1, 2, 3)}, [16, 32, 64], 16, LastLevelMaxPool())
        parts = {
            "rpn_anchor_generator": AnchorGenerator(((8,), (16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 4),
            "box_head": TwoMLPHead(16 * 49, 32),
            "box_predictor": FastRCNNPredictor(32, num_classes),
        }
        return FasterRCNN(pyramid, **parts, **settings)

    return body, finish


DETECTORS["tiny"] = DetectorSpec("tiny", 8, _tiny, two_stages=True)


@register_model()
def tiny_fcn(num_classes, **_):
    """A fully convolutional network of 100,000 parameters, among torchvision's."""
    return FCN(IntermediateLayerGetter(create_model("cifar_resnet8"), {"layer3": "out"}), FCNHead(64, num_classes))


TINY = "tiny_fcn"
networks.TORCHVISION += (TINY,)


def classification_job(data, out, name="run", **changes):
    """An eight-layer network on a few images."""
    small = {
        "dataset": "cifar10", "model": "cifar_resnet8", "epochs": 2, "batch": 20, "limit": 100, "milestones": (1,),
    }  # fmt: skip
    return _job(ClassificationJob, ClassificationRecipe, small, {"data": data, "out": out, "name": name}, changes)


def detection_job(data, out, name="run", **changes):
    """A tiny detector on a few small images."""
    small = {
        "model": "tiny", "norms": "batch", "epochs": 2, "batch": 2, "warmup": 2, "milestones": (1,),
        "min_size": 64, "max_size": 64, "proposals": 50, "regions": 16,
    }  # fmt: skip
    ours = {"data": data, "out": out, "name": name, "workers": 0}
    return _job(DetectionJob, DetectionRecipe, small, ours, changes)


def segmentation_job(data, out, name="run", **changes):
    """A tiny network on a few small images."""
    small = {
        "model": TINY, "epochs": 2, "batch": 2, "size": 64, "augment": "crop", "eval_limit": 0,
        "schedule": "step", "milestones": (1,), "warmup": 2,
    }  # fmt: skip
    ours = {"data": data, "out": out, "name": name, "workers": 0}
    return _job(SegmentationJob, SegmentationRecipe, small, ours, changes)


def _job(kind, recipe, small, ours, changes):
    names = {each.name for each in fields(kind)}
    given = {key: value for key, value in changes.items() if key in names}
    varied = {key: value for key, value in changes.items() if key not in names}
    return kind(recipe=recipe(**{**small, **varied}), **{"accelerator": "cpu", **ours, **given})


class Ended:
    """In the place of a process that has ended well."""

    lost = False

    def poll(self):
        return 0

    def stop(self):
        return


def started_here(executor, command):
    """In the place of `Here.start`: the same command, in this process, to its end."""
    assert main([*command.arguments]) == 0
    return Ended()


def run_in_process(job, resume=True):
    """`run`, in a process that knows the tiny detector too."""
    run(job, resume=resume)


def result_of(job):
    """Everything a run ends with that must not depend on how often it was interrupted."""
    rows = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("images_per_second", None)
    weights = {file.name: load_file(file) for file in job.folder.glob("*.safetensors")}
    return rows, weights, read_state(job.folder / "last.pt")


def assert_same(a, b):
    flat_a, flat_b = (torch.utils._pytree.tree_flatten(result)[0] for result in (a, b))
    assert len(flat_a) == len(flat_b)
    for one, other in zip(flat_a, flat_b, strict=True):
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other

"""Jobs of seconds, one a task."""

from dataclasses import fields

from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.detection.job import DetectionJob
from recalib.detection.recipes import DetectionRecipe


def classification_job(data, out, name="run", **changes):
    """An eight-layer network on a few images."""
    small = {
        "dataset": "cifar10", "model": "cifar_resnet8", "epochs": 2, "batch": 20, "limit": 100, "milestones": (1,),
    }  # fmt: skip
    return _job(ClassificationJob, ClassificationRecipe, small, {"data": data, "out": out, "name": name}, changes)


def detection_job(data, out, name="run", **changes):
    """A small detector on a few small images."""
    small = {
        "model": "fasterrcnn_resnet18_fpn", "epochs": 2, "batch": 2, "warmup": 2, "milestones": (1,),
        "min_size": 64, "max_size": 64, "proposals": 50, "regions": 16,
    }  # fmt: skip
    ours = {"data": data, "out": out, "name": name, "workers": 0}
    return _job(DetectionJob, DetectionRecipe, small, ours, changes)


def _job(kind, recipe, small, ours, changes):
    names = {each.name for each in fields(kind)}
    given = {key: value for key, value in changes.items() if key in names}
    varied = {key: value for key, value in changes.items() if key not in names}
    return kind(recipe=recipe(**{**small, **varied}), **{"accelerator": "cpu", **ours, **given})

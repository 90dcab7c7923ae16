import multiprocessing

import pytest
from tests.jobs import classification_job, detection_job, segmentation_job


@pytest.fixture(params=["classification", "detection", "segmentation"])
def task(request):
    """Each task in turn."""
    return request.param


@pytest.fixture
def make_job(task, tmp_path, request):
    """A job of seconds, of each task in turn."""
    kind, data = {
        "classification": (classification_job, "cifar"), "detection": (detection_job, "shapes"),
        "segmentation": (segmentation_job, "shapes"),
    }[task]  # fmt: skip
    folder = request.getfixturevalue(data)
    return lambda name="run", **changes: kind(folder, tmp_path, name, **changes)


@pytest.fixture(scope="session")
def processes():
    """Processes that start with the packages imported, and can be killed for real."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.jobs", "lightning_fabric", "faster_coco_eval", "torchmetrics.classification"]
    )
    return context

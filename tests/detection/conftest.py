import multiprocessing

import pytest
from tests.jobs import detection_job


@pytest.fixture
def make_job(shapes, tmp_path):
    """A job of seconds: a small detector on a few small images."""
    usual = {"model": "fasterrcnn_resnet18_fpn", "data": shapes}
    return lambda name="run", **changes: detection_job(out=tmp_path, name=name, **{**usual, **changes})


@pytest.fixture(scope="session")
def processes():
    """Processes that start with the packages imported, and can be killed for real."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recalib.detection.job", "lightning_fabric", "faster_coco_eval"])
    return context

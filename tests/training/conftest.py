from dataclasses import replace

import pytest
from examples.kills import forkserver

from recalib.training import Job, Recipe


@pytest.fixture
def make_job(cifar, tmp_path):
    """A job of seconds: an eight-layer network on a few images."""

    def make(name="run", **changes):
        small = Recipe(dataset="cifar10", model="cifar_resnet8", epochs=2, batch=20, limit=100, milestones=(1,))
        ours = {k: changes.pop(k) for k in list(changes) if k in Job.__dataclass_fields__}
        return Job(recipe=replace(small, **changes), data=cifar, out=tmp_path, name=name, accelerator="cpu", **ours)

    return make


@pytest.fixture(scope="session")
def processes():
    """Processes that start with the packages imported, and can be killed for real."""
    return forkserver()

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from recalib.training import Job, Recipe


@pytest.fixture(scope="session")
def cifar(tmp_path_factory):
    """CIFAR-10's official binary files, full size, with images that show their class."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 10_000, dtype=np.uint8)
    pixels = draw.integers(0, 256, (10_000, 3072), dtype=np.uint8) // 2
    pixels[:, ::7] += (labels * 12)[:, None]
    records = np.concatenate([labels[:, None], pixels], 1)
    for i in range(1, 6):
        np.roll(records, 1000 * i, 0).tofile(folder / f"data_batch_{i}.bin")
    records.tofile(folder / "test_batch.bin")
    return root


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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recalib.training", "timm"])
    return context

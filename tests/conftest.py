"""What tests of several packages share."""

import numpy as np
import pytest


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

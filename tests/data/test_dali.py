import sys

import numpy as np
import pytest
import torch
from PIL import Image

from recalib.data import Normalization, read_folder
from recalib.data.dali import DaliTrain
from recalib.data.imagenet import Folder
from recalib.errors import RecalibError, WorkFailed

PLAIN = Normalization((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))


@pytest.fixture
def root(tmp_path):
    """Twelve images, each of one shade of grey that tells which it is."""
    for half, name in (("train", "cat"), ("train", "dog")):
        folder = tmp_path / half / name
        folder.mkdir(parents=True)
        for i in range(6):
            grey = 100 * (name == "dog") + 10 * i
            Image.fromarray(np.full((40 + 3 * i, 50, 3), grey, np.uint8)).save(folder / f"{i}.JPEG")
    return tmp_path


def feed(root, **options):
    given = {"size": 32, "device": torch.device("cpu"), "workers": 1, "seed": 0} | options
    return DaliTrain(read_folder(root, train=True), PLAIN, 5, **given)


def seen(batches):
    """Shade and label of every image."""
    return [
        (round(float(x.mean())), int(label))
        for images, labels in batches
        for x, label in zip(images, labels, strict=True)
    ]


@pytest.fixture
def _dali():
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")


@pytest.mark.usefixtures("_dali")
def test_every_image_comes_once_an_epoch_with_its_label(root):
    batches = list(feed(root).epoch(0))
    assert [images.shape for images, _ in batches] == [(5, 3, 32, 32), (5, 3, 32, 32), (2, 3, 32, 32)]
    assert sorted(seen(batches)) == [(100 * label + 10 * i, label) for label in (0, 1) for i in range(6)]


@pytest.mark.usefixtures("_dali")
def test_an_epoch_is_entered_in_the_middle_and_shared_between_processes(root):
    whole = seen(feed(root).epoch(1))
    assert seen(feed(root).epoch(1, start=1)) == whole[5:]
    parts = [seen(feed(root, share=(rank, 2)).epoch(1)) for rank in (0, 1)]
    assert parts[0] == [*whole[0:4:2], *whole[5:9:2], whole[10]]
    assert parts[1] == [*whole[1:4:2], *whole[6:9:2], whole[11]]


@pytest.mark.usefixtures("_dali")
def test_an_image_that_cannot_be_read_stops_the_run(root):
    (root / "train" / "dog" / "2.JPEG").write_bytes(b"no image")
    with pytest.raises(WorkFailed, match=r"^DALI cannot read one of [^\n]*$"):
        list(feed(root).epoch(0))


def test_without_dali_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(RecalibError, match=r"--reader dali: nvidia.dali not installed: pip install '.*\[dali\]'"):
        feed(root)


@pytest.mark.usefixtures("_dali")
def test_parquet_is_refused():
    rows = Folder(("a row of a parquet file",), (0,), ("cat",))
    with pytest.raises(RecalibError, match="no parquet; --reader torchvision reads both"):
        DaliTrain(rows, PLAIN, 1, size=32, device=torch.device("cpu"), workers=1, seed=0)

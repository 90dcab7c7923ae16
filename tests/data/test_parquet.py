"""Hugging Face's parquet shards are read as the same images in folders are."""

import numpy as np
import pytest
import torch
from PIL import Image

from recalib.data import FolderTest, FolderTrain, Normalization, find_shards, read_folder
from recalib.errors import RecalibError

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
PLAIN = Normalization((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
CPU = torch.device("cpu")


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """The same images as folders and as two shards a half."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    draw = np.random.default_rng(0)
    for half, shards in (("train", "train"), ("val", "validation")):
        files = []
        for name in ("cat", "dog"):
            folder = tmp_path / "folders" / half / name
            folder.mkdir(parents=True)
            for i in range(4):
                files.append(folder / f"{i}.png")
                Image.fromarray(draw.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(files[-1])
        write(tmp_path / "parquet" / "data", shards, files, [0] * 4 + [1] * 4)
    return tmp_path / "folders", tmp_path / "parquet"


def write(folder, half, files, labels, names=("cat", "dog")):
    folder.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    for shard, some in enumerate((slice(0, 3), slice(3, None))):
        images = [{"bytes": file.read_bytes(), "path": None} for file in files[some]]
        rows = datasets.Dataset.from_dict({"image": images, "label": labels[some]}, features=features)
        rows.to_parquet(folder / f"{half}-{shard:05}-of-00002.parquet")


def test_shards_give_the_pixels_and_labels_that_folders_give(roots):
    for make in (
        lambda root: FolderTest(read_folder(root, train=False), PLAIN, 3, size=32, device=CPU, workers=0),
        lambda root: FolderTrain(read_folder(root, train=True), PLAIN, 4, size=32, device=CPU, workers=0, seed=0).epoch(
            1
        ),
    ):
        for (x, y), (z, w) in zip(*map(make, roots), strict=True):
            assert torch.equal(x, z)
            assert torch.equal(y, w)


def test_processes_read_shards_too(roots):
    folder = read_folder(roots[1], train=True)
    here, there = (FolderTrain(folder, PLAIN, 4, size=32, device=CPU, workers=w, seed=0) for w in (0, 2))
    for (x, _), (y, _) in zip(here.epoch(0), there.epoch(0), strict=True):
        assert torch.equal(x, y)


def test_an_image_that_cannot_be_read_is_replaced_and_named(roots):
    broken = roots[0] / "train" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:100])
    files = sorted((roots[0] / "train").rglob("*.png"))
    write(roots[1] / "data", "train", files, [0] * 4 + [1] * 4)
    feed = FolderTrain(read_folder(roots[1], train=True), PLAIN, 8, size=32, device=CPU, workers=0, seed=0)
    images, _ = next(feed.epoch(0))
    assert len(images) == 8
    assert feed.unreadable == ["row 7 of the train shards"]


def test_a_row_without_a_class_is_named(roots):
    files = sorted((roots[0] / "train").rglob("*.png"))
    write(roots[1] / "data", "train", files, [0] * 4 + [-1] * 4)
    with pytest.raises(RecalibError, match="row 4 has label -1, not one of its classes"):
        read_folder(roots[1], train=True)


def test_a_file_that_is_no_parquet_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(RecalibError, match="its parquet files cannot be read"):
        read_folder(tmp_path, train=True)


def test_a_limit_is_spread_over_the_rows(roots):
    assert read_folder(roots[1], train=True).first(4).labels == (0, 0, 1, 1)


def test_folders_without_shards_have_none(roots):
    assert find_shards(roots[0], train=True) == []
    assert len(find_shards(roots[1], train=False)) == 2

import numpy as np
import pytest
import torch
from PIL import Image

from recalib.data import FolderTest, FolderTrain, Normalization, read_folder
from recalib.errors import RecalibError, WorkFailed

CPU = torch.device("cpu")
PLAIN = Normalization((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))


@pytest.fixture
def root(tmp_path):
    draw = np.random.default_rng(0)
    for half, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / half / name
            folder.mkdir(parents=True)
            for i in range(count):
                size = (40 + 3 * i, 50, 3)
                Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{i}.JPEG")
    return tmp_path


def train(root, **options):
    given = {"size": 32, "device": CPU, "workers": 0, "seed": 0} | options
    return FolderTrain(read_folder(root, train=True), PLAIN, given.pop("batch", 4), **given)


def test_classes_are_the_folders_in_order(root):
    folder = read_folder(root, train=False)
    assert folder.classes == ("cat", "dog")
    assert folder.labels == (0, 0, 0, 1, 1, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_entered_in_the_middle_is_the_same_whoever_reads(root, workers):
    whole = list(train(root).epoch(1))
    rest = list(train(root, workers=workers).epoch(1, start=1))
    assert len(whole) == 3
    assert len(rest) == 2
    for (x, y), (z, w) in zip(whole[1:], rest, strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)


def test_the_next_epoch_crops_differently(root):
    feed = train(root, batch=12)
    (a, _), (b, _) = next(feed.epoch(0)), next(feed.epoch(1))
    assert not any((x == y).all() for x in a for y in b)


def test_reading_leaves_the_callers_random_numbers_alone(root):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(train(root).epoch(0))
    assert torch.equal(torch.rand(3), expected)


def test_test_images_are_the_centre_of_the_resized_image(root):
    feed = FolderTest(read_folder(root, train=False), PLAIN, 4, size=28, device=CPU, workers=0)
    x, y = (torch.cat(column) for column in zip(*feed, strict=True))
    assert x.shape == (6, 3, 28, 28)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    picture = Image.open(root / "val" / "cat" / "0.JPEG")  # 50 wide, 40 high: short side to 32, centre 28
    resized = np.asarray(picture.resize((40, 32), Image.Resampling.BILINEAR))
    torch.testing.assert_close(x[0], torch.from_numpy(resized[2:30, 6:34].copy()).permute(2, 0, 1).float())


def test_an_unreadable_image_is_replaced_and_named(root):
    broken = root / "train" / "cat" / "3.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    feed = train(root)
    labels = torch.cat([y for _, y in feed.epoch(0)])
    list(feed.epoch(1))
    assert len(labels) == 12
    assert feed.unreadable == [str(broken)]


def test_an_unreadable_image_stops_a_strict_run(root):
    (root / "train" / "dog" / "1.JPEG").write_bytes(b"")
    with pytest.raises(WorkFailed, match=r"dog/1.JPEG cannot be read"):
        list(train(root, strict=True).epoch(0))


def test_an_unreadable_test_image_is_left_out_and_named(root):
    broken = root / "val" / "cat" / "1.JPEG"
    broken.write_bytes(b"no image")
    feed = FolderTest(read_folder(root, train=False), PLAIN, 4, size=28, device=CPU, workers=0)
    assert torch.cat([y for _, y in feed]).tolist() == [0, 0, 1, 1, 1]
    assert feed.unreadable == [str(broken)]


def test_a_folder_without_class_folders_is_refused(root):
    flat = root / "flat" / "val"
    flat.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(flat / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(RecalibError, match="has no class folders: sort its images"):
        read_folder(root / "flat", train=False)


def test_an_empty_class_is_named(root):
    (root / "train" / "eel").mkdir()
    with pytest.raises(RecalibError, match=r"train/eel holds no images"):
        read_folder(root, train=True)


def test_a_missing_half_is_named(root):
    with pytest.raises(RecalibError, match=r"nowhere/train is missing"):
        read_folder(root / "nowhere", train=True)

"""Shards in an object store: every image once an epoch, whoever is killed, however many processes there are."""

import io
import json
import multiprocessing
import tarfile
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.jobs import assert_same, classification_job, result_of, run_in_process

from recalib.data import FolderTest, FolderTrain, Normalization, generator_for, read_folder
from recalib.data import shards as module
from recalib.data.shards import WINDOW, address, block_order
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_state
from recalib.training.lifecycle import run

CPU = torch.device("cpu")
PLAIN = Normalization((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
LENGTHS = {"train": (6, 4, 5, 6, 3), "validation": (4, 3)}


def picture(number):
    """A picture that tells its number by its colour."""
    image, file = Image.new("RGB", (40, 48), (number, 0, 0)), io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_tar(path, numbers):
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            for ending, content in (("cls", str(number % 2).encode()), ("json", b"{}"), ("png", picture(number))):
                about = tarfile.TarInfo(f"a.b/{number:05}.{ending}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """WebDataset's tars with timm's _info.json."""
    root, splits = tmp_path_factory.mktemp("shards"), {}
    for half, lengths in LENGTHS.items():
        names = [f"{half}-{i:04}.tar" for i in range(len(lengths))]
        for name, first, count in zip(names, np.cumsum([0, *lengths]).tolist(), lengths, strict=False):
            write_tar(root / name, range(first, first + count))
        splits[half] = {"filenames": names, "shard_lengths": lengths, "num_samples": sum(lengths)}
    (root / "_info.json").write_text(json.dumps({"splits": splits}))
    (root / "classnames.txt").write_text("even\nodd\n")
    return root


@pytest.fixture(scope="module")
def bucket(folder):
    """The same shards as s3://shards/imagenet, in an object store of this machine."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as set_for:
        set_for.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            set_for.setenv(name, "test")
        set_for.setenv("AWS_DEFAULT_REGION", "us-east-1")
        set_for.setattr(module, "PATIENCE", 0.01)
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.mkdir("shards")
        files.put(f"{folder}/", "shards/imagenet/", recursive=True)
        yield files
    server.stop()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECALIB_CACHE", str(tmp_path / "cache"))
    module._open.cache_clear()


S3 = Path("s3://shards/imagenet")


def train(root, **options):
    given = {"size": 32, "device": CPU, "workers": 0, "seed": 0} | options
    return FolderTrain(read_folder(root, train=True), PLAIN, given.pop("batch", 4), **given)


def numbers(batches):
    """What pictures the batches hold."""
    return [[round(float(image[0, 0, 0])) for image in images] for images, _ in batches]


def flat(batches):
    return [*chain(*batches)]


def all_of(half="train"):
    return list(range(sum(LENGTHS[half])))


def test_an_address_outlives_a_path():
    assert address(Path("s3://bucket/name")) == "s3://bucket/name"
    assert address(Path("https://host:1/a/b")) == "https://host:1/a/b"
    assert address(Path("/data/imagenet")) is None
    assert address(Path("data")) is None


def test_a_pass_takes_every_image_once_and_few_shards_at_a_time():
    counts = [10] * 64
    order = block_order(counts, generator_for(0)).tolist()
    assert sorted(order) == list(range(640))
    assert order != block_order(counts, generator_for(1)).tolist()
    lanes = 16  # half as many as there are windows
    for moment in range(0, 640 - 160, 160):
        assert len({index // 10 for index in order[moment : moment + 160]}) <= 2 * lanes * WINDOW
    for world in (2, 4, 8):
        of = [{index // 10 for index in order[rank::world]} for rank in range(world)]
        shared = sum(len(a & b) for i, a in enumerate(of) for b in of[:i])
        assert shared <= lanes  # the shards that the ends of lanes cut in two


def test_lanes_of_unequal_shards_lose_nothing():
    counts = [7, 1, 12, 3, 5, 9, 2, 8, 4]
    assert sorted(block_order(counts, generator_for(0)).tolist()) == list(range(sum(counts)))


def test_local_tars_are_read_as_folders_are(folder):
    tested = FolderTest(read_folder(folder, train=False), PLAIN, 4, size=32, device=CPU, workers=0)
    assert numbers(tested) == [[0, 1, 2, 3], [4, 5, 6]]
    assert torch.cat([labels for _, labels in tested]).tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert tested.folder.classes == ("even", "odd")


def test_tars_that_nobody_counted_are_counted(folder, tmp_path):
    for file in folder.glob("*.tar"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    read = read_folder(tmp_path, train=True)
    assert [shard.count for shard in read.shards] == list(LENGTHS["train"])
    assert read.classes == ("0", "1")


def test_a_bucket_gives_what_the_folder_gives_whoever_reads(bucket, folder):
    here, there = (list(train(root, workers=n).epoch(1)) for root, n in ((folder, 0), (S3, 2)))
    assert sorted(flat(numbers(there))) == all_of()
    for (x, y), (z, w) in zip(here, there, strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)


def test_parquet_in_a_bucket_is_read(bucket, tmp_path):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
    for half, count in (("train", 5), ("validation", 3)):
        rows = {"image": [{"bytes": picture(i), "path": None} for i in range(count)],
                "label": [i % 2 for i in range(count)]}  # fmt: skip
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / f"{half}-00000.parquet"))
        bucket.put(str(tmp_path / f"{half}-00000.parquet"), f"shards/rows/{half}-00000.parquet")
    read = train(Path("s3://shards/rows"))
    assert read.folder.classes == ("even", "odd")
    assert sorted(flat(numbers(read.epoch(0)))) == list(range(5))


@pytest.mark.parametrize("world", [2, 4])
def test_the_stream_is_the_same_for_any_number_of_processes(folder, world):
    alone = numbers(train(folder).epoch(0))
    parts = [numbers(train(folder, share=(rank, world)).epoch(0)) for rank in range(world)]
    for step, together in enumerate(zip(*parts, strict=True)):
        assert sorted(flat(together)) == sorted(alone[step])


def test_a_worker_that_dies_costs_no_image_and_repeats_none(folder):
    """Two processes come as far as a checkpoint of step 2; one is killed, and the other goes on alone."""
    before = [numbers(train(folder, share=(rank, 2)).epoch(3))[:2] for rank in range(2)]
    after = numbers(train(folder).epoch(3, start=2))
    seen = flat(before[0] + before[1] + after)
    assert sorted(seen) == all_of()


def test_broken_and_missing_shards_are_named_and_others_stand_in(bucket, folder):
    bucket.copy("shards/imagenet/", "shards/broken/", recursive=True)
    bucket.pipe("shards/broken/train-0001.tar", (folder / "train-0001.tar").read_bytes()[:10000])
    bucket.rm("shards/broken/train-0004.tar")
    root = Path("s3://shards/broken")
    feed = train(root)
    seen = flat(numbers(feed.epoch(0)))
    assert len(seen) == len(all_of())
    assert not {6, 7, 8, 9, 21, 22, 23} & set(seen)
    assert sorted(name.split(" (")[0] for name in feed.unreadable) == [
        f"s3://shards/broken/train-000{i}.tar" for i in (1, 4)
    ]
    with pytest.raises(WorkFailed, match=r"train-000[14].tar .* cannot be read"):
        list(train(root, strict=True).epoch(0))


def test_the_cache_is_kept_to_its_limit(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("RECALIB_CACHE_GB", "0")
    assert sorted(flat(numbers(train(S3).epoch(0)))) == all_of()
    assert len(list((tmp_path / "cache" / "shards").glob("*.tar"))) == 1  # the newest


@pytest.mark.parametrize(
    ("root", "line"),
    [("s3://shards/nothing", "has no _info.json and no shards"), ("s3://nowhere/at-all", "cannot be read|no shards"),
     ("what://host/x", "its shards cannot be read: Protocol not known")],
)  # fmt: skip
def test_an_address_with_nothing_there_is_one_line(bucket, root, line):
    with pytest.raises(RecalibError, match=line) as told:
        read_folder(Path(root), train=True)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_a_training_that_is_killed_in_an_epoch_ends_as_one_that_was_not(bucket, tmp_path):
    """The position in the epoch is in the checkpoint: no image is lost or comes twice, or the weights would differ."""
    about = {"dataset": "imagenet", "image_size": 32, "batch": 4, "limit": None, "save_every": 1, "workers": 0}
    calm, killed = (classification_job(S3, tmp_path, name, **about) for name in ("calm", "killed"))
    run(calm)
    process = multiprocessing.get_context("spawn").Process(target=run_in_process, args=(killed,))
    process.start()
    while not killed.folder.joinpath("last.pt").exists() or read_state(killed.folder / "last.pt")["step"] < 2:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    run(killed, resume=True)
    assert_same(result_of(killed), result_of(calm))

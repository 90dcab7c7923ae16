import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from recalib.data import Images, find_cifar, read_cifar
from recalib.errors import RecalibError

BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


@pytest.fixture(scope="module")
def records():
    draw = np.random.default_rng(0)
    return draw.integers(0, 10, 10_000, dtype=np.uint8), draw.integers(0, 256, (10_000, 3072), dtype=np.uint8)


@pytest.fixture
def binary(tmp_path, records):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    np.concatenate([records[0][:, None], records[1]], 1).tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n\n")
    return folder


def write_python(tmp_path, records, protocol=2, **changes):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir(exist_ok=True)
    content = {b"data": records[1], b"labels": records[0].tolist(), b"batch_label": b"testing batch 1 of 1"} | changes
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol))
    meta = {b"label_names": [f"class{i}".encode() for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    return folder


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 0.999])
def test_what_is_set_aside_and_what_is_left_are_all_images_once(share):
    images = Images(torch.arange(1000), torch.arange(1000), ("a",))
    kept, aside = images.split(share)
    assert len(aside.labels) == int(1000 * share)
    assert torch.equal(torch.cat([kept.labels, aside.labels]).sort().values, images.labels)
    assert not len(aside.labels) or aside.labels.diff().max() <= 1 / share + 1  # evenly spread


def test_the_binary_layout_is_read_as_it_was_written(binary, records):
    images = read_cifar(binary.parent, "cifar10", train=False)
    assert images.pixels.shape == (10_000, 3, 32, 32)
    assert torch.equal(images.pixels.flatten(1), torch.from_numpy(records[1]))
    assert images.labels.tolist() == records[0].tolist()
    assert images.classes[3] == "class3"


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_python_layout_gives_the_same_images(tmp_path, records, protocol):
    images = read_cifar(write_python(tmp_path, records, protocol).parent, "cifar10", train=False)
    assert torch.equal(images.pixels.flatten(1), torch.from_numpy(records[1]))
    assert images.labels.tolist() == records[0].tolist()
    assert images.classes[9] == "class9"


def test_a_pickle_written_by_python_2_is_read(tmp_path, records):
    # as the official files were: protocol 2, text as 8-bit strings, numpy before 2
    folder = write_python(tmp_path, records)
    raw = (folder / "test_batch").read_bytes()
    assert b"numpy._core.multiarray" in raw or b"numpy.core.multiarray" in raw
    (folder / "test_batch").write_bytes(raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert len(read_cifar(folder.parent, "cifar10", train=False).labels) == 10_000


def test_the_folder_itself_may_be_given(binary):
    assert read_cifar(binary, "cifar10", train=False).labels.shape == (10_000,)


def test_a_data_set_is_recognised_by_its_folder(binary, tmp_path):
    assert find_cifar(tmp_path) == "cifar10"
    assert find_cifar(tmp_path / "elsewhere") is None


def test_a_missing_file_is_named(binary, tmp_path):
    with pytest.raises(RecalibError, match=r"data_batch_1.bin is missing"):
        read_cifar(tmp_path, "cifar10", train=True)


@pytest.mark.parametrize("cut", [1, 3073, 3073 * 9_999])
def test_a_truncated_binary_file_is_named(binary, tmp_path, cut):
    file = binary / "test_batch.bin"
    os.truncate(file, file.stat().st_size - cut)
    with pytest.raises(RecalibError, match=r"test_batch.bin is truncated: .*\d"):
        read_cifar(tmp_path, "cifar10", train=False)


@pytest.mark.parametrize("keep", [0, 1, 100, 1_000_000])
def test_a_truncated_python_file_is_named(tmp_path, records, keep):
    folder = write_python(tmp_path, records)
    os.truncate(folder / "test_batch", keep)
    with pytest.raises(RecalibError, match=r"test_batch is truncated or no CIFAR file"):
        read_cifar(tmp_path, "cifar10", train=False)


def test_a_label_that_is_no_class_is_named_with_its_image(binary, tmp_path):
    raw = np.fromfile(binary / "test_batch.bin", np.uint8)
    raw[3073 * 17] = 10
    raw.tofile(binary / "test_batch.bin")
    with pytest.raises(RecalibError, match=r"test_batch.bin is mislabelled: image 17 has label 10 of 10"):
        read_cifar(tmp_path, "cifar10", train=False)


class Evil:
    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


class EvilArray:
    def __reduce__(self):
        return np.frompyfunc, (print, 1, 1)


@pytest.mark.parametrize("payload", [Evil(), EvilArray(), np.zeros(3), Path])
def test_a_pickle_that_asks_for_more_is_refused_and_not_executed(tmp_path, records, payload, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_python(tmp_path, records, **{"extra": payload})
    with pytest.raises(RecalibError, match="no CIFAR file"):
        read_cifar(tmp_path, "cifar10", train=False)
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_cifar_100_has_its_fine_labels(tmp_path, layout):
    draw = np.random.default_rng(0)
    coarse, fine = draw.integers(0, 20, 10_000, dtype=np.uint8), draw.integers(0, 100, 10_000, dtype=np.uint8)
    pixels = draw.integers(0, 256, (10_000, 3072), dtype=np.uint8)
    if layout == "binary":
        folder = tmp_path / "cifar-100-binary"
        folder.mkdir()
        np.concatenate([coarse[:, None], fine[:, None], pixels], 1).tofile(folder / "test.bin")
    else:
        folder = tmp_path / "cifar-100-python"
        folder.mkdir()
        content = {b"data": pixels, b"fine_labels": fine.tolist(), b"coarse_labels": coarse.tolist()}
        (folder / "test").write_bytes(pickle.dumps(content, 2))
    images = read_cifar(tmp_path, "cifar100", train=False)
    assert images.labels.tolist() == fine.tolist()
    assert len(images.classes) == 100

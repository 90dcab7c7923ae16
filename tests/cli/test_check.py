"""`recalib check` as a user calls it."""

import json

import numpy as np
import pytest
from PIL import Image

from recalib.cli import main


@pytest.fixture
def pictures(tmp_path):
    """Cats and dogs to train on, and cats and cows to test on; one picture is broken."""
    for half, names in (("train", ("cat", "dog")), ("val", ("cat", "cow"))):
        for i, name in enumerate(names):
            folder = tmp_path / half / name
            folder.mkdir(parents=True)
            for j in range(2 + i):
                Image.fromarray(np.full((20, 20, 3), 50 * j, np.uint8)).save(folder / f"{j}.png")
    (tmp_path / "train" / "dog" / "1.png").write_bytes(b"broken")
    return tmp_path


def test_a_folder_of_images_is_decoded_counted_and_its_halves_compared(pictures, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["check", str(pictures), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{pictures}, train: 5 images of 2 classes, 2 (cat) to 3 (dog) images a class; 2 problems" in said
    assert f"{pictures / 'train' / 'dog' / '1.png'}: it cannot be decoded" in said
    assert "train: only train has dog" in said
    assert "test: only test has cow" in said
    found = json.loads(out.read_text())
    assert not found["sound"]
    assert found["halves"][0]["classes"] == {"cat": 2, "dog": 3}
    assert main(["check", str(pictures), "--strict"]) == 1


def test_cifar_is_counted_and_a_file_that_is_cut_short_is_named(cifar, tmp_path, capsys):
    assert main(["check", str(cifar), "--strict"]) == 0
    assert "train: 50,000 images of 10 classes" in capsys.readouterr().out
    copy = tmp_path / "cifar-10-batches-bin"
    copy.mkdir()
    for file in (cifar / "cifar-10-batches-bin").iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "test_batch.bin").unlink()
    (copy / "test_batch.bin").write_bytes(b"short")
    assert main(["check", str(tmp_path), "--strict"]) == 1
    assert "test_batch.bin is truncated" in capsys.readouterr().out


def test_shards_are_looked_over_as_folders_are(pictures, tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    files = sorted((pictures / "train").rglob("*.png"))
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [int(file.parent.name == "dog") for file in files],
    }
    shards = tmp_path / "shards"
    shards.mkdir()
    for half in ("train", "validation"):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(shards / f"{half}-00000-of-00001.parquet")
    assert main(["check", str(shards), "--strict"]) == 1
    said = capsys.readouterr().out
    assert f"{shards}, train: 5 images of 2 classes, 2 (cat) to 3 (dog) images a class; 1 problems" in said
    assert "it cannot be decoded" in said


def test_label_images_are_compared_with_their_images(tmp_path, capsys):
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("nothing\ncat\ncow\n")
    wrong = {2: np.full((9, 20), 1), 3: np.full((20, 20), 7), 4: np.ones((20, 20, 3))}
    for i in range(6):
        Image.fromarray(np.full((20, 20, 3), 40 * i, np.uint8)).save(tmp_path / "images" / "train" / f"{i}.png")
        labels = wrong.get(i, np.full((20, 20), i % 2)).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "labels" / "train" / f"{i}.png")
    (tmp_path / "labels" / "train" / "5.png").write_bytes(b"torn")
    (tmp_path / "images" / "train" / "1.png").write_bytes(b"torn")
    assert main(["check", str(tmp_path), "--strict"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    labels = tmp_path / "labels" / "train"
    assert "train: 6 images of 3 classes" in said
    assert f"{labels}/2.png is of another size than" in said
    assert f"{labels}/3.png has class 7; " in said
    assert f"{labels}/4.png is of another size than" in said
    assert f"{labels}/5.png cannot be read" in said
    assert "images/train/1.png: it cannot be decoded" in said
    assert "class without images: 1" in said
    (labels / "0.png").unlink()
    assert main(["check", str(tmp_path)]) == 0
    assert "0.png is missing: the labels of" in capsys.readouterr().out


def test_detection_data_is_looked_over_too(shapes, capsys):
    assert main(["check", str(shapes), "--strict"]) == 0
    assert "instances_train2017.json: 6 images, 6 objects, nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_what_is_no_data_is_one_line(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", place]) == 2
    error = capsys.readouterr().err
    assert ("there is no such file or folder" if place == "nowhere" else "holds no data set") in error
    assert error.count("\n") == 1

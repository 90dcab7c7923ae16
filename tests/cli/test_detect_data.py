import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recalib.cli import main
from recalib.detection.checkpoints import write_detector
from recalib.detection.detectors import build_detector

DATA = os.environ.get("RECALIB_DATA")
real = pytest.mark.skipif(DATA is None, reason="RECALIB_DATA is not set: coco_mini is needed")
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.fixture
def data(tmp_path):
    """Four small images in COCO's layout, of which two have attributes, and a function that spoils the labels."""
    root = tmp_path / "data"
    (root / "val2017").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(1, 5):
        Image.fromarray(draw.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(root / "val2017" / f"{i}.jpg")
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60} for i in range(1, 5)]
    images[0]["attributes"] = images[1]["attributes"] = {"timeofday": "night"}
    box = {"bbox": [5, 6, 30, 40], "segmentation": [[5, 6, 35, 6, 35, 46]], "category_id": 1, "iscrowd": 0}
    content = {
        "images": images,
        "annotations": [{**box, "id": 10 * i, "image_id": i, "area": 1200} for i in range(1, 5)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    file = root / "instances_val2017.json"
    file.write_text(json.dumps(content))

    @contextlib.contextmanager
    def spoil():
        yield content
        file.write_text(json.dumps(content))

    return root, spoil


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    detector = build_detector("maskrcnn_resnet18_fpn", num_classes=3, attention="eca", min_size=64, max_size=96)
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    write_detector(detector, path, "maskrcnn_resnet18_fpn", ("__background__", "cat", "dog"), "none")
    return path


def detect(*arguments):
    return main(["detect", *map(str, arguments)])


def test_check_finds_everything_that_is_wrong(data, tmp_path, capsys):
    root, spoil = data
    with spoil() as content:
        first, second, third, _ = content["annotations"]
        first["bbox"], second["bbox"] = [5, 6, float("nan"), 3], [50, 6, -30, 3]
        third["category_id"] = 77
        more = {"image_id": 4, "category_id": 1, "segmentation": [[5, 6, 35, 6, 35, 46]]}
        content["annotations"] += [
            {**more, "id": 40, "bbox": [1, 1, 5, 5]},
            {**more, "id": 41, "bbox": [1, 1, 0, 5]},
            {**more, "id": 42, "bbox": [70, 1, 50, 5]},
            {**more, "id": 43, "bbox": [1, 1, 5, 5], "segmentation": [[1]]},
            {**more, "id": 44, "bbox": [1, 1, 5, 5], "image_id": 99},
        ]
        content["images"][1]["width"] = 90
    (root / "val2017" / "1.jpg").unlink()
    whole = (root / "val2017" / "3.jpg").read_bytes()
    (root / "val2017" / "3.jpg").write_bytes(whole[: len(whole) // 2])
    assert detect("check", root, "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    kinds = ["missing image", "box not finite", "inverted box", "unknown category", "duplicate id", "empty box",
             "box outside of the image", "no mask", "unknown image", "broken image",
             "image of another size"]  # fmt: skip
    assert found["label_files"][0]["counts"] == dict.fromkeys(kinds, 1)
    assert not found["sound"]
    said = capsys.readouterr().out
    assert all(kind in said for kind in kinds)
    assert "object 40 in image 4" in said
    assert detect("check", root, "--strict") == 1


def test_check_passes_sound_data_even_if_strict(data, capsys):
    assert detect("check", data[0], "--strict") == 0
    assert "4 images, 4 objects, nothing is wrong" in capsys.readouterr().out


def test_check_says_what_is_no_data(tmp_path, capsys):
    assert detect("check", tmp_path) == 2
    assert "holds no detection data" in capsys.readouterr().err


@real
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_evaluate_reads_a_published_result_file(tmp_path, iou_type, capsys):
    folder = Path(DATA) / "coco_mini"
    files = ("--predictions", folder / "fastestdet_val2017_results.json",
             "--annotations", folder / "instances_val2017.json")  # fmt: skip
    assert detect("evaluate", *files, "--iou-type", iou_type, "--json", tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    if iou_type == "bbox":
        stats = json.loads((folder / "fastestdet_val2017_stats.json").read_text())
        assert {name: found[name] for name in FIGURES} == pytest.approx(stats, abs=1e-6)
    assert f"{100 * found['AP']:.1f}" in capsys.readouterr().out


def test_evaluate_needs_no_images_for_a_result_file(data, tmp_path):
    root, _ = data
    results = [{"image_id": i, "category_id": 1, "score": 0.5, "bbox": [5, 6, 30, 40]} for i in (1, 2)]
    (tmp_path / "results.json").write_text(json.dumps(results))
    labels = (root / "instances_val2017.json").rename(tmp_path / "elsewhere.json")
    files = ("--predictions", tmp_path / "results.json", "--annotations", labels, "--json", tmp_path / "out.json")
    assert detect("evaluate", *files) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["AR1"] == pytest.approx(0.5)
    assert found["per_domain"]["timeofday"]["night"]["AP"] == pytest.approx(1)


def results_of(root, *changes):
    """Two sound detections, and some that are spoilt."""
    sound = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [5, 6, 30, 40]}
    file = root / "results.json"
    file.write_text(json.dumps([sound, {**sound, "image_id": 2}, *({**sound, **change} for change in changes)]))
    return file


def evaluate_file(root, results, *more):
    return detect("evaluate", "--predictions", results, "--annotations", root / "instances_val2017.json", *more)


def test_evaluate_refuses_a_box_of_negative_width(data, capsys):
    assert evaluate_file(data[0], results_of(data[0], {"bbox": [5, 6, -3, 4]})) == 2
    assert "detection 2 has the box [5, 6, -3, 4]: its width or height is negative" in capsys.readouterr().err


def test_evaluate_refuses_labels_of_images_that_are_not_there_and_inverted_boxes(data, capsys):
    root, spoil = data
    with spoil() as content:
        content["annotations"][0]["image_id"] = 99
    assert evaluate_file(root, results_of(root)) == 1
    assert "unknown image: object 10 in image 99: instances_val2017.json lists no such image" in capsys.readouterr().err
    with spoil() as content:
        content["annotations"][0] |= {"image_id": 1, "bbox": [50, 6, -30, 3]}
    assert evaluate_file(root, results_of(root)) == 1
    assert "inverted box: object 10 in image 1 (1.jpg)" in capsys.readouterr().err


def test_evaluate_counts_and_names_what_it_leaves_out_and_if_strict_refuses_it(data, tmp_path, capsys):
    root, spoil = data
    with spoil() as content:
        first, second, *_ = content["annotations"]
        first["bbox"] = [5, float("nan"), 3, 3]
        content["annotations"].append({**second, "id": second["id"], "image_id": 3})
    results = results_of(root, {"category_id": 77})
    assert evaluate_file(root, results, "--json", tmp_path / "out.json") == 0
    said = capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["left_out"] == {
        "box not finite": 1, "duplicate id": 1, "detection of an unknown category": 1,
    }  # fmt: skip
    assert "left out or cut off: 1 x detection of an unknown category" in said
    assert "object 10 in image 1 (1.jpg)" in said
    assert evaluate_file(root, results, "--strict") == 1
    assert "box not finite" in capsys.readouterr().err


def test_evaluate_makes_no_masks_of_boxes(data, capsys):
    assert evaluate_file(data[0], results_of(data[0]), "--iou-type", "segm") == 2
    assert "has detections without a mask: there is no segm AP of boxes" in capsys.readouterr().err


def test_check_finds_what_is_there_twice_outside_or_not_at_all(data, tmp_path, capsys):
    root, spoil = data
    with spoil() as content:
        content["categories"] += [{"id": 5, "name": "hen"}, {"id": 6, "name": "cat"}]
        content["images"].append({**content["images"][3], "id": 44})
        content["annotations"][0]["segmentation"] = [[5, 6, 95, 6, 35, 46]]
    assert detect("check", root, "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())["label_files"][0]
    assert found["counts"] == {"duplicate category": 2, "duplicate frame": 1, "polygon outside of the image": 1}
    said = capsys.readouterr().out
    assert "instances_val2017.json, category 5: 2 have this id: dog, hen" in said
    assert "instances_val2017.json, category 'cat': 2 have this name: 1, 6" in said
    assert "image 44 (4.jpg): image 4 is the same file" in said
    assert "object 10 in image 1 (1.jpg): it is cut off at the edge" in said
    with spoil() as content:
        content["annotations"], content["images"] = [], []
    assert detect("check", root, "--strict") == 1
    said = capsys.readouterr().out
    assert "no images: 1" in said
    assert "no objects: 1" in said


def test_check_finds_a_frame_that_is_there_twice_and_an_object_without_a_box(tmp_path, capsys):
    Image.new("RGB", (1280, 720)).save(tmp_path / "a.jpg")
    lane = {"category": "lane", "poly2d": [[0, 0], [1, 1]]}
    frame = {"name": "a.jpg", "labels": [{"category": "car"}, lane]}
    (tmp_path / "labels.json").write_text(json.dumps([frame, frame]))
    (tmp_path / "images").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "images" / "a.jpg")
    assert detect("check", tmp_path) == 0
    said = capsys.readouterr().out
    assert "duplicate frame: 1" in said
    assert "object 1 in image 1 (a.jpg): None" in said


def test_evaluate_of_a_detector_and_of_its_results_agree(data, checkpoint, tmp_path, capsys):
    root, spoil = data
    with spoil() as content:
        content["annotations"][3]["bbox"] = [1, 2, 3]
    (root / "val2017" / "2.jpg").write_bytes(b"broken")
    out = ("--out", tmp_path / "results", "--json", tmp_path / "out.json")
    assert detect("evaluate", "--weights", checkpoint, "--data", root, "--workers", 0, "--device", "cpu", *out) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == found["segm"]["images"] == 3
    assert found["left_out"] == {"no box": 1}
    assert found["unreadable"] == [str(root / "val2017" / "2.jpg")]
    said = capsys.readouterr().out
    assert "1 x no box" in said
    assert "1 images could not be read" in said
    with spoil() as content:
        content["images"] = [image for image in content["images"] if image["id"] != 2]
        content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 2]
    for iou_type, figures in (("bbox", found), ("segm", found["segm"])):
        files = ("--predictions", tmp_path / "results" / f"{iou_type}.json", "--annotations", root)
        assert detect("evaluate", *files, "--iou-type", iou_type, "--json", tmp_path / "again.json") == 0
        again = json.loads((tmp_path / "again.json").read_text())
        assert {name: again[name] for name in FIGURES} == {name: figures[name] for name in FIGURES}


def test_evaluate_asks_for_one_of_its_two_uses(tmp_path, capsys):
    assert detect("evaluate", "--predictions", tmp_path) == 2
    assert "give either --predictions and --annotations, or --weights and --data" in capsys.readouterr().err


def test_predict_draws_pictures_and_writes_what_it_saw(data, checkpoint, tmp_path):
    root, _ = data
    twin = tmp_path / "1.jpg"
    twin.write_bytes((root / "val2017" / "1.jpg").read_bytes())
    out = tmp_path / "pictures"
    arguments = ("--weights", checkpoint, "--out", out, "--score", 0.0, "--device", "cpu")
    assert detect("predict", root / "val2017", twin, *arguments) == 0
    found = json.loads((out / "predictions.json").read_text())
    assert [each["picture"] for each in found] == ["1-0.png", "2.png", "3.png", "4.png", "1-4.png"]
    assert found[0]["objects"] == found[4]["objects"]
    for each in found:
        with Image.open(out / each["picture"]) as picture:
            assert picture.size == (80, 60)
        assert all(o["category"] in ("cat", "dog") and o["segmentation"]["size"] == [60, 80] for o in each["objects"])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((), "which images?"),
        (("nowhere.jpg",), "nowhere.jpg: there is no such file or folder"),
    ],
)
def test_predict_needs_images(data, checkpoint, tmp_path, capsys, monkeypatch, images, message):
    monkeypatch.chdir(tmp_path)
    assert detect("predict", *images, "--weights", checkpoint, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert message in capsys.readouterr().err


def test_predict_names_what_cannot_be_read_or_is_huge_and_goes_on(data, checkpoint, tmp_path, capsys):
    root, _ = data
    huge, torn = tmp_path / "huge.png", root / "instances_val2017.json"
    Image.new("1", (20000, 12000)).save(huge)
    words = ("--weights", checkpoint, "--out", tmp_path / "out", "--device", "cpu")
    assert detect("predict", huge, torn, root / "val2017" / "1.jpg", *words) == 0
    said = capsys.readouterr().err
    assert f"{huge}: left out, for it cannot be read, or is too large" in said
    assert f"{torn}: left out" in said
    (found,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert found["picture"] == "1.png"
    assert detect("predict", huge, *words) == 1
    assert "none of 1 files can be read as an image" in capsys.readouterr().err


def test_predict_animates_what_a_run_watched(tmp_path, capsys):
    (tmp_path / "run" / "watch").mkdir(parents=True)
    for epoch, shade in enumerate((0, 100, 200)):
        Image.new("RGB", (64, 48), (shade, 0, 0)).save(tmp_path / "run" / "watch" / f"epoch_{epoch:04}.png")
    words = ["--weights", str(tmp_path / "run"), "--watch-training", "--out", str(tmp_path / "pictures")]
    assert main(["detect", "predict", *words]) == 0
    with Image.open(tmp_path / "pictures" / "training.gif") as animated:
        assert (animated.n_frames, animated.size) == (3, (64, 48))
    assert "training.gif: 3 epochs" in capsys.readouterr().out.replace("\n", "")

"""The promises of a detection run: repeatable, resumable to the bit, careful with data that is wrong."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from recalib.detection.checkpoints import load_detector
from recalib.detection.recipes import DetectionRecipe
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_metrics, read_state
from recalib.surgery import inserted
from recalib.training.lifecycle import run
from recalib.training.table import is_finished


def test_the_detector_of_a_run_is_loaded_with_its_classes_and_attention(make_job):
    job = make_job(model="fasterrcnn_resnet18_fpn", attention="eca", options=("kernel_size=5",), epochs=1)
    run(job)
    detector, classes = load_detector(job.folder)
    assert classes == ("__background__", "square", "disc")
    assert {placement.options["kernel_size"] for placement in inserted(detector).placements} == {5}


def test_a_mask_detector_is_evaluated_on_boxes_and_masks(make_job):
    metrics = run(make_job(model="maskrcnn_resnet18_fpn", epochs=1, limit=2)).metrics
    assert {"train_loss_mask", "AP", "AP50", "mask_AP", "mask_AP50"} < metrics.keys()


ONE_STAGE = {"proposals": DetectionRecipe.proposals, "regions": DetectionRecipe.regions}  # it has none


@pytest.mark.parametrize(("model", "more"), [("maskrcnn_resnet18_fpn", {}), ("retinanet_resnet18_fpn", ONE_STAGE)])
def test_mixed_precision_trains(make_job, model, more):
    metrics = run(make_job(model=model, precision="bf16-mixed", epochs=1, limit=2, **more)).metrics
    assert torch.isfinite(torch.tensor(metrics["train_loss"]))


def test_the_classes_are_told_after_every_evaluation_and_kept(make_job, capsys):
    job = make_job(epochs=3, eval_every=2, milestones=())
    run(job)
    said = capsys.readouterr().out.splitlines()
    places = [i for i, line in enumerate(said) if re.fullmatch(r"  (square|disc) +AP +\d+\.\d, AP50 +\d+\.\d", line)]
    assert len(places) == 4  # two classes, after the second epoch and the last
    found = json.loads((job.folder / "per_class.json").read_text())
    assert found.keys() == {"square", "disc"}
    last = [f"{100 * each['AP']:5.1f}" for each in found.values()]
    assert sorted(re.search(r"AP +(\d+\.\d),", said[i])[1] for i in places[2:]) == sorted(map(str.strip, last))
    assert sum(each["AP"] for each in found.values()) / 2 == pytest.approx(read_metrics(job.folder)[-1]["AP"])


def test_where_no_object_is_to_be_found_there_is_no_ap_and_that_is_said(make_job, shapes, tmp_path, capsys):
    copy = shutil.copytree(shapes, tmp_path / "empty")
    file = copy / "instances_val2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    job = make_job(data=copy, epochs=1)
    metrics = run(job).metrics
    said = capsys.readouterr().out
    assert not any(name.startswith("AP") for name in metrics)
    assert "no AP: nothing of the kind in the data on 2 images" in said
    assert "-100" not in said
    assert is_finished(job.folder)


def test_the_learning_rate_rule_is_said(make_job, capsys):
    run(make_job(epochs=1, limit=2, lr=0.04))
    assert "learning rate 0.005: 0.04 for batches of 16, in proportion for 2" in capsys.readouterr().out


@pytest.mark.parametrize("attention", [None, "ab"])
@pytest.mark.parametrize(("ibn", "adversarial"), [("none", True), ("a", False), ("b", False), ("b", True)])
def test_domain_generalization_trains_alone_and_with_attention(make_job, ibn, adversarial, attention):
    style = {"style_adversarial": True, "style_labels": ("timeofday",)} if adversarial else {}
    job = make_job(ibn=ibn, attention=attention, epochs=1, limit=4, **style)
    metrics = run(job).metrics
    assert metrics.get("train_style_timeofday", 0) > 0 or not adversarial
    detector, _ = load_detector(job.folder)
    assert not any("adversary" in name for name, _ in detector.named_modules())


def test_an_image_is_watched_after_every_epoch(make_job, shapes):
    job = make_job(watch=shapes / "val2017" / f"{1:012}.png", limit=2)
    run(job)
    assert sorted(file.name for file in (job.folder / "watch").iterdir()) == ["epoch_0000.png", "epoch_0001.png"]
    with pytest.raises(RecalibError, match=r"nothing\.png is no image that can be read"):
        run(make_job("other", watch=shapes / "nothing.png"))


def test_domains_choose_what_is_trained_and_evaluated_on(make_job):
    job = make_job(train_domain="timeofday=daytime", eval_domain="timeofday=night", epochs=1, batch=1)
    run(job)
    assert read_state(job.folder / "last.pt")["optimizer"]["state"][0]["momentum_buffer"] is not None
    assert read_metrics(job.folder)[0]["step"] == 2  # two of the six images are of the day


def test_one_domain_cannot_be_told_from_another(make_job):
    job = make_job(train_domain="timeofday=night", style_adversarial=True, style_labels=("timeofday",))
    with pytest.raises(RecalibError, match="all images have timeofday 'night': there is no domain to tell"):
        run(job)


def corrupt(shapes, folder):
    """A copy with a truncated image, a missing one, a box outside of its image, and one of NaN."""
    copy = shutil.copytree(shapes, folder)
    images = copy / "train2017"
    (images / f"{1:012}.png").write_bytes((images / f"{1:012}.png").read_bytes()[:200])
    (images / f"{2:012}.png").unlink()
    file = copy / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][2]["bbox"] = [200, 200, 10, 10]
    content["annotations"][3]["bbox"] = [float("nan"), 1, 10, 10]
    file.write_text(json.dumps(content))
    return copy


def test_corrupted_data_ends_with_a_report_and_a_finished_model(make_job, shapes, tmp_path, capsys):
    job = make_job(data=corrupt(shapes, tmp_path / "corrupt"), epochs=1)
    outcome = run(job)
    said = capsys.readouterr().out
    assert outcome.stopped is None
    assert torch.isfinite(torch.tensor(outcome.metrics["train_loss"]))
    assert "train: 1 x missing image, left out or cut off; recalib detect check lists them" in said
    assert "train: 1 x box not finite" in said
    assert "train: 1 x box outside of the image" in said
    assert [name.rsplit("/")[-1] for name in outcome.metrics["unreadable"]] == [f"{1:012}.png"]
    load_detector(job.folder)


def test_strict_refuses_corrupted_data_before_training(make_job, shapes, tmp_path):
    job = make_job(data=corrupt(shapes, tmp_path / "corrupt"), strict=True)
    with pytest.raises(WorkFailed, match="missing image"):
        run(job)
    assert not job.folder.exists()


@pytest.fixture
def bdd():
    """Nine images of BDD100K with their labels."""
    root = os.environ.get("RECALIB_DATA")
    if root is None or not (Path(root) / "bdd_mini").is_dir():
        pytest.skip("RECALIB_DATA names no folder with bdd_mini")
    return Path(root) / "bdd_mini" / "labels.json"


@pytest.mark.parametrize("ibn", ["a", "b"])
def test_rows_of_table_5_train_on_real_driving_images(make_job, bdd, ibn):
    job = make_job(
        data=bdd, ibn=ibn, style_adversarial=True, style_labels=("timeofday",), attention="se", epochs=1, limit=4,
        eval_domain="timeofday=dawn/dusk", min_size=96, max_size=192,
    )  # fmt: skip
    metrics = run(job).metrics
    assert metrics["train_style_timeofday"] > 0
    assert "AP50" in metrics


@pytest.mark.slow(reason="images of 512 pixels through a stem of full resolution")
@pytest.mark.parametrize("changes", [{"ibn": "b"}, {"style_adversarial": True, "style_labels": ("timeofday",)}])
def test_scratchdets_ssd_trains_on_real_driving_images(make_job, bdd, changes):
    ours = {"attention": "ab", "train_domain": "timeofday=daytime,dawn/dusk", "augment": "ssd", "epochs": 1, "batch": 3}
    metrics = run(make_job(model="ssd512_resnet34", data=bdd, **ours, **changes)).metrics
    assert {"train_classification", "train_bbox_regression", "AP50"} < metrics.keys()

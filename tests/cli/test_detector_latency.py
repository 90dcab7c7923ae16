"""`recalib latency` of detectors as a user meets it."""

import json

import pytest

from recalib.cli import main

SMALL = ["--size", "64x96", "--rounds", "5", "--threads", "1"]


@pytest.mark.usefixtures("in_process")
def test_a_detector_is_timed_part_by_part_beside_the_plain_one(tmp_path, capsys):
    file = tmp_path / "new" / "latency.json"
    assert (
        main(
            [
                "latency",
                "retinanet_resnet18_fpn",
                "--attention",
                "eca",
                *SMALL,
                "--json",
                str(file),
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    found = json.loads(file.read_text())
    assert found["machine"]["threads"] == 1
    forms = [(cell["module"], cell["deployed"]) for cell in found["cells"]]
    assert forms == [("baseline", False), ("baseline", True), ("eca", False), ("eca", True)]
    plain = [cell["latency_ms"]["median"] for cell in found["cells"] if cell["module"] == "baseline"]
    for cell in found["cells"]:
        assert (cell["model"], cell["size"], cell["batch"]) == ("retinanet_resnet18_fpn", [64, 96], 1)
        assert cell["parts_ms"].keys() == {"transform", "backbone", "neck", "head", "rest"}
        samples = [part["samples"] for part in cell["parts_ms"].values()]
        assert [sum(parts) for parts in zip(*samples, strict=True)] == pytest.approx(cell["latency_ms"]["samples"])
        assert cell["overhead"]["ratio"] == pytest.approx(cell["latency_ms"]["median"] / min(plain))
    said = capsys.readouterr().out
    assert "retinanet_resnet18_fpn, 1 x 3 x 64 x 96, ms" in said
    assert "eca, deployed" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["maskrcnn_resnet19_fpn"], "unknown detector 'maskrcnn_resnet19_fpn'; did you mean maskrcnn_resnet18_fpn"),
        (["maskrcnn_resnet18_fpn", "resnet18"], "unknown detector 'resnet18'"),
        (["maskrcnn_resnet18_fpn", "--attention", "eac"], "unknown attention 'eac'"),
        (["maskrcnn_resnet18_fpn", "--runtime", "openvino"], "unknown option '--runtime'"),
        (["maskrcnn_resnet18_fpn", "--rounds", "2"], "rounds=2: at least 5"),
        (["maskrcnn_resnet18_fpn", "--batch", "0"], "batches=0: at least 1"),
        (["maskrcnn_resnet18_fpn", "--size", "12y3"], "size '12y3'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_measured(words, message, capsys):
    assert main(["latency", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1

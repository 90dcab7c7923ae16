"""``recalib plan`` as it is typed."""

import json

import pytest

from recalib.cli import main

COMMAND = ["plan", "cifar-paper", "--gpus", "8", "--device", "h200"]


def test_a_plan_is_told_with_its_assumptions(tmp_path, capsys):
    out = tmp_path / "plan.json"
    more = ["--rate", "20000", "--data-rate", "2GB/s", "--price", "4", "--json", str(out)]
    assert main([*COMMAND, *more]) == 0
    said = capsys.readouterr().out
    for part in ("8 devices, 128 images a step", "epochs an hour", "Assumed:", "measured by you", "Breaks first"):
        assert part in said
    results = json.loads(out.read_text())
    assert results["work"]["images_per_second"] == 20000
    assert [each["devices"] for each in results["scales"]] == [1, 8, 64, 512, 4096]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--data-rate", "fast"], "--data-rate 'fast': should be a rate such as 2GB/s or 10Gbit/s"),
        (["--gpus", "0"], "--gpus 0: should be above 0"),
        (["--device", "h300"], "unknown device 'h300'"),
        (["--batch", "4"], "batch 4: gives 8 devices no image each"),
    ],
)
def test_what_is_wrong_is_one_line(more, line, capsys):
    assert main([*COMMAND, *more]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1

"""``recalib sites`` lists places with their cost; ``recalib yolo`` says what it is for."""

import json

import pytest

from recalib.cli import main


def test_sites_are_listed_with_their_cost(tmp_path, capsys):
    assert main(["sites", "resnet18", "--attention", "eca", "--json", str(tmp_path / "sites.json")]) == 0
    printed = capsys.readouterr().out
    assert "resnet18, 8 sites" in printed
    assert "layer1.0" in printed
    rows = json.loads((tmp_path / "sites.json").read_text())["sites"]
    assert rows[0] == {
        "name": "layer1.0", "kind": "residual", "stage": 0, "channels": 64, "size": [56, 56],
        "params": 3, "macs": 192, "bytes_moved": rows[0]["bytes_moved"],
    }  # fmt: skip
    assert rows[0]["bytes_moved"] > 2 * 4 * 64 * 56 * 56


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sites", "resnet18", "--where", "stage"], "unknown --where 'stage'; did you mean stages?"),
        (["sites", "vit_tiny_patch16_224"], "vit_tiny_patch16_224 has no residual additions or blocks"),
        (["yolo", "predict", "model=a.pt"], "recalib yolo trains; predict: use `yolo` itself"),
        (["yolo", "train", "model=a.pt"], "attention=NAME is missing"),
        (["yolo", "train", "attention="], "attention=: give attention=VALUE"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert "Traceback" not in message


def test_yolo_has_help(capsys):
    assert main(["yolo", "--help"]) == 0
    assert "Example: recalib yolo train" in capsys.readouterr().out

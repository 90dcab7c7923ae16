"""`recalib cost` as a user meets it."""

import json

import pytest

from recalib.cli import main

RESNET20 = 272_474


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_a_networks_cost_is_printed(capsys):
    assert main(["cost", "resnet20"]) == 0
    out = capsys.readouterr().out
    assert "resnet20, 1 x 3 x 32 x 32" in out
    assert "272.47 k" in out
    assert "40.81 M" in out


def test_every_module_is_compared_with_the_plain_network(capsys, tmp_path):
    assert main(["cost", "resnet20", "--attention", "eca", "se", "--json", str(tmp_path / "new" / "cost.json")]) == 0
    cells = json.loads((tmp_path / "new" / "cost.json").read_text())["cells"]
    assert [cell["module"] for cell in cells] == ["baseline", "eca", "se"]
    assert [cell["params"] - RESNET20 for cell in cells] == [0, 27, 2373]
    out = capsys.readouterr().out
    assert "+27" in out
    assert "+2.37 k" in out


def test_the_json_holds_raw_counts_for_the_network_and_each_module(tmp_path):
    main(["cost", "resnet20", "--batch", "2", "--size", "64", "--json", str(tmp_path / "cost.json")])
    (cell,) = json.loads((tmp_path / "cost.json").read_text())["cells"]
    about = {"model": "resnet20", "module": "baseline", "size": 64, "batch": 2, "convention": "standard"}
    assert about.items() <= cell.items()
    assert cell["params"] == cell["modules"][""]["params"] == RESNET20
    assert cell["modules"]["fc"] == {
        "params": 650,
        "macs": 2 * 640,
        "flops": 2 * 2 * 640,
        "bytes_moved": 4 * (650 + 2 * 64 + 2 * 10),
        "kind": "Linear",
        "own": {"params": 650, "macs": 2 * 640, "flops": 2 * 2 * 640, "bytes_moved": 4 * (650 + 2 * 64 + 2 * 10)},
    }


def test_the_parts_are_shown_on_request(capsys):
    main(["cost", "resnet20", "--attention", "srm", "--parts"])
    out = capsys.readouterr().out
    assert "layer3 " in out
    assert "layer3.2.attention" in out
    assert "layer3.2.conv1" not in out


def test_kernels_are_written_as_in_the_names_of_the_released_checkpoints(capsys, tmp_path):
    main(["cost", "torchvision:resnet50", "--attention", "eca", "--kernel-size", "3557", "--json", str(tmp_path / "f")])
    plain, eca = json.loads((tmp_path / "f").read_text())["cells"]
    assert (plain["params"], eca["params"] - plain["params"]) == (25_557_032, 80)


def test_binary_units_and_the_papers_convention(capsys):
    main(["cost", "torchvision:resnet50", "--binary"])
    assert "24.37 Mi" in capsys.readouterr().out
    main(["cost", "torchvision:resnet50", "--convention", "klomp"])
    assert "4.11 G" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["resnt50"], 2, "'resnt50'; did you mean resnet50"),
        (["resnet20", "--attention", "ecca"], 2, "'ecca'; did you mean eca"),
        (["resnet20", "--attention", "se", "--kernel-size", "3"], 2, "'kernel_size'"),
        (["resnet20", "--size", "0"], 2, "size '0'"),
        (["resnet20", "--attention", "gct", "--convention", "klomp"], 2, "GCT"),
        (["vit_tiny_patch16_224", "--size", "100"], 1, "(1, 3, 100, 100)"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(capsys, arguments, status, named):
    assert main(["cost", *arguments]) == status
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["cost", "resnet20", "--json", str(tmp_path / "file" / "cost.json")]) == 1
    assert str(tmp_path / "file" / "cost.json") in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["cost", "--help"])
    assert caught.value.code == 0
    assert "recalib cost resnet50 --attention eca se --parts" in capsys.readouterr().out


def test_a_detector_is_counted_part_by_part(tmp_path, capsys):
    arguments = ["cost", "fasterrcnn_resnet18_fpn", "--size", "96x160", "--attention", "eca"]
    assert main([*arguments, "--json", str(tmp_path / "cost.json")]) == 0
    cells = json.loads((tmp_path / "cost.json").read_text())["cells"]
    assert [cell["size"] for cell in cells] == [[96, 160]] * 2
    parts = ("backbone", "neck", "rpn", "roi_heads")
    for cell in cells:
        assert sum(cell["modules"][part]["params"] for part in parts) == cell["params"]
        assert sum(cell["modules"][part]["macs"] for part in parts) == cell["macs"]
    assert cells[1]["params"] - cells[0]["params"] == 8 * 3
    said = capsys.readouterr().out
    assert all(part in said for part in parts)


def test_three_sides_are_no_size(capsys):
    assert main(["cost", "resnet18", "--size", "1x2x3"]) == 2
    assert "pixels such as 224, or height x width such as 320x192" in capsys.readouterr().err

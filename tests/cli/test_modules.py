"""`recalib modules` as a user meets it."""

import json

import pytest

from recalib.attention import CATALOGUE
from recalib.cli import main


@pytest.fixture
def catalogue(tmp_path):
    main(["modules", "--json", str(tmp_path / "modules.json")])
    return json.loads((tmp_path / "modules.json").read_text())


def entry(catalogue, name, **options):
    return next(e for e in catalogue["modules"] if e["name"] == name and e["options"] == options)


def test_every_form_of_every_mechanism_is_listed_under_its_own_title(catalogue):
    listed = [(e["name"], e["title"]) for e in catalogue["modules"]]
    assert listed == [(name, form.title) for name, found in CATALOGUE.items() for form in found.classes]


def test_parameters_are_the_originals_at_256_channels(catalogue):
    assert catalogue["channels"] == 256
    expected = {"ab": 256, "eca": 3, "se": 8464, "srm": 1024, "multi_se": 3 * 8464 + 3 * 256, "gct": 768, "eca_ns": 768}
    assert {name: entry(catalogue, name)["params"] for name in expected} == expected
    assert entry(catalogue, "ge", kernel_size=7)["params"] == 256 * (49 + 1 + 2)


def test_the_width_can_be_chosen(tmp_path, capsys):
    assert main(["modules", "--channels", "64", "--json", str(tmp_path / "f")]) == 0
    assert entry(json.loads((tmp_path / "f").read_text()), "se")["params"] == 2 * 64 * 4 + 4 + 64
    assert "C = 64" in capsys.readouterr().out


def test_it_says_what_a_module_reads_and_how_it_runs_and_starts(catalogue):
    def facts(**which):
        found = entry(catalogue, **which)
        return found["moments"], found["fused"], found["identity_at_start"]

    assert facts(name="se") == ("mean", True, False)
    assert facts(name="srm") == ("mean, variance", True, False)
    assert facts(name="gct") == ("mean, variance", True, True)
    assert facts(name="gct", mode="l1") == ("map", False, True)
    assert facts(name="ab") == ("mean", True, True)


def test_passes_over_the_map_are_one_a_read_and_one_for_the_gates(catalogue):
    passes = {e["name"]: e["passes"] for e in catalogue["modules"] if not e["options"]}
    assert (passes["se"], passes["simam"], passes["coord"], passes["triplet"], passes["cbam"]) == (2, 2, 2, 2, 3)
    assert passes["bam"] is passes["sge"] is None
    assert entry(catalogue, name="cbam")["moments"] == "mean, maximum, pixel mean, pixel maximum"
    assert entry(catalogue, name="simam")["authors"].startswith("after")


def test_aliases_and_papers_are_given(catalogue):
    assert entry(catalogue, "ab")["aliases"] == ["meanrew"]
    assert "1910.03151" in entry(catalogue, "eca")["paper"]


def test_the_table_fits_a_terminal_of_80_columns_without_losing_a_formula(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["modules"]) == 0
    out = capsys.readouterr().out
    assert "y = x·σ(W₂·relu(W₁·m))" in out
    assert "[a(x₁); b(x₁)]" in out, "brackets of a formula are no markup"
    assert "kernel_size=7" in out
    assert "…" not in out


def test_a_map_without_channels_is_refused(capsys):
    assert main(["modules", "--channels", "0"]) == 2
    assert "--channels 0" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["modules", "--help"])
    assert caught.value.code == 0
    assert "recalib modules --channels 512" in capsys.readouterr().out

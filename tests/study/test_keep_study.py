"""A study kept without its weights: what the README says of it is in its file."""

import json
from pathlib import Path

import pytest
from examples.keep_study import MARKED, keep, table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path):
    """Two networks, two seeds, one run not at its end."""
    folder = tmp_path / "study"
    scores = {"plain": {"0": 90.0, "1": 91.0}, "eca": {"0": 90.5}}
    networks = [
        {"name": name, "role": "module", "scores": found, "mean": 90.5, "std": None,
         "gain": None if name == "plain" else {"points": 0.5, "low": None, "high": None}}
        for name, found in scores.items()
    ]  # fmt: skip
    for name, epochs in (("plain-seed0", 2), ("plain-seed1", 2), ("eca-seed0", 2), ("eca-seed1", 1)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps({"recipe": {"epochs": 2}}))
        rows = [json.dumps({"step": i, "epoch": i, "train_loss": 1.0, "top1": 90.0}) for i in range(epochs)]
        (folder / name / "metrics.jsonl").write_text("\n".join(rows))
        (folder / name / "last.safetensors").write_bytes(b"large")
    results = {"networks": networks, "sentences": ["eca: +0.50 points with 1 seed"], "missing": {"eca": 1}, "seeds": 2,
               "detectable": None}  # fmt: skip
    (folder / "study.json").write_text(json.dumps(results))
    return folder


def test_finished_runs_are_kept_without_weights_and_others_left_out(study, tmp_path):
    assert keep(study, tmp_path / "kept") == ["eca-seed1"]
    files = {str(file.relative_to(tmp_path / "kept")) for file in (tmp_path / "kept").rglob("*") if file.is_file()}
    runs = ("plain-seed0", "plain-seed1", "eca-seed0")
    assert files == {"study.json", *(f"{run}/{name}" for run in runs for name in ("config.json", "metrics.jsonl"))}


def test_a_table_with_its_sentences_and_what_is_missing_goes_between_the_marks(study):
    text = MARKED.sub(lambda _: table(study), "before\n<!-- study -->\nold\n<!-- end of study -->\nafter\n")
    assert text.startswith("before\n<!-- study -->\n\n| network |")
    assert "| plain |  |  |  |  | 2 | 90.50 |  |\n| eca |  |  |  |  | 1 | 90.50 | +0.50 |\n" in text
    assert "* eca: +0.50 points with 1 seed\n* 1 of 4 runs are missing (eca 1): this study is open\n" in text
    assert text.endswith("\n<!-- end of study -->\nafter\n")


@pytest.mark.parametrize("document", ["README.md", "docs/study.md"])
def test_what_the_documents_say_of_the_study_is_in_its_file(document):
    kept = ROOT / "results" / "study" / "cifar10"
    found = MARKED.search((ROOT / document).read_text(encoding="utf-8"))
    if not (kept / "study.json").exists():
        pytest.skip("the study is not kept yet")
    assert found[0] == table(kept)

import json

import pytest

from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.classification import finetune as table3
from recalib.training import table as table1


@pytest.fixture
def write_run(tmp_path):
    def write(name, top1s, initialized=None, **changes):
        folder = tmp_path / name
        folder.mkdir()
        job = ClassificationJob(
            recipe=ClassificationRecipe(model="resnet56", epochs=len(top1s), **changes), preset="cifar-paper"
        )
        (folder / "config.json").write_text(json.dumps(job.config()))
        first = [] if initialized is None else [{"step": 0, "initialized_top1": initialized}]
        rows = [*first, *({"step": i + 1, "top1": t, "top5": 99.0} for i, t in enumerate(top1s))]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write


def test_table_1_has_means_and_deviations_over_seeds(write_run, tmp_path):
    for seed, top1 in enumerate([93.0, 94.0, 95.0]):
        write_run(f"se{seed}", [50.0 + seed, top1], attention="se", seed=seed)
    last = write_run("base", [50.0, 92.0])
    rows = table1.table(table1.finished_runs(tmp_path, last))
    by_name = {row.attention: row for row in rows}
    assert (by_name["se"].runs, by_name["se"].top1, by_name["se"].top1_std) == (3, 94.0, 1.0)
    assert by_name["se"].curve == [(51.0, 1.0), (94.0, 1.0)]
    assert by_name["baseline"].top1 == 92.0


def test_the_best_is_bold_and_those_within_its_deviation_are_underlined(write_run, tmp_path):
    for seed, top1 in enumerate([93.0, 94.0, 95.0]):
        write_run(f"se{seed}", [top1], attention="se", seed=seed)
    write_run("eca", [93.2], attention="eca")
    last = write_run("base", [92.9])
    text = table1.markdown(table1.table(table1.finished_runs(tmp_path, last)))
    assert "| resnet56 | se | 3 | **94.00 ± 1.00** |" in text
    assert "| resnet56 | eca | 1 | <u>93.20</u> |" in text
    assert "| resnet56 | baseline | 1 | 92.90 |" in text


def test_unfinished_runs_and_runs_of_other_recipes_stay_out(write_run, tmp_path):
    one = write_run("one", [90.0, 91.0])
    write_run("other", [90.0, 91.0], lr=0.3)
    unfinished = write_run("unfinished", [90.0, 91.0], attention="se")
    lines = (unfinished / "metrics.jsonl").read_text().splitlines()
    (unfinished / "metrics.jsonl").write_text(lines[0] + "\n")
    assert table1.finished_runs(tmp_path, one) == [one]


def test_table_3_shows_initialized_then_two_epochs_then_all(write_run):
    folders = [
        write_run("base", [69.9, 69.96, 70.03], 69.96),
        write_run("ab", [70.0, 70.11, 70.17], 69.96, attention="ab"),
        write_run("se", [60.0, 69.84, 70.15], 6.46, attention="se"),
        write_run("se_id", [70.0, 70.0, 70.0], 69.96, attention="se", identity=True),
    ]
    assert table3.markdown(table3.table(folders)).splitlines() == [
        "| Model | Start | Initialized | 2 epochs | 3 epochs |",
        "|---|---|---|---|---|",
        "| baseline |  | **69.96** | 69.96 | 70.03 |",
        "| ab | identity | **69.96** | **70.11** | **70.17** |",
        "| se | default | 6.46 | 69.84 | 70.15 |",
        "| se | identity | **69.96** | 70.00 | 70.00 |",
    ]


def test_modules_that_start_as_the_identity_come_once(tmp_path):
    job = ClassificationJob(recipe=ClassificationRecipe(weights=tmp_path))
    jobs = table3.variants(job, ["baseline", "meanrew", "se", "timm:eca"], ["default", "identity"])
    assert [(j.recipe.attention, j.recipe.identity) for j in jobs] == [
        (None, False), ("meanrew", False), ("se", False), ("se", True), ("timm:eca", False), ("timm:eca", True),
    ]  # fmt: skip

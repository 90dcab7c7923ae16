import json

import numpy as np
import pytest
from scipy import stats

from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.classification import finetune as table3
from recalib.errors import RecalibError
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


def test_bold_is_what_is_told_apart_from_every_other_by_students_t(write_run, tmp_path):
    for seed, top1 in enumerate([94.0, 94.1, 94.2]):
        write_run(f"se{seed}", [top1], attention="se", seed=seed)
        write_run(f"base{seed}", [top1 - 0.5 - 0.01 * seed], seed=seed)
        write_run(f"eca{seed}", [top1 - 0.5 + (-1) ** seed], attention="eca", seed=seed)
    rows = table1.table(tmp_path.iterdir())
    text = table1.markdown([row for row in rows if row.attention != "eca"])
    assert "| resnet56 | se | 3 | **94.10 ± 0.10** |" in text
    assert "| resnet56 | baseline | 3 | 93.59 ± 0.09 |" in text
    text = table1.markdown(rows)
    assert "| resnet56 | se | 3 | <u>94.10 ± 0.10</u> |" in text
    assert "| resnet56 | eca | 3 | <u>93.93 ± 1.16</u> |" in text


def test_two_seeds_are_as_uncertain_as_students_t_says(write_run, tmp_path):
    for seed, (se, plain) in enumerate([(93.0, 92.0), (95.0, 93.5)]):
        write_run(f"se{seed}", [se], attention="se", seed=seed)
        write_run(f"base{seed}", [plain], seed=seed)
    rows = {row.attention: row for row in table1.table(tmp_path.iterdir())}
    low, high = rows["se"].figures["top1"].interval
    assert (low, high) == pytest.approx((94 - 12.706 * 1.0, 94 + 12.706 * 1.0), abs=1e-3)
    found = table1.against_baseline(rows["se"], [*rows.values()])
    differences = np.array([1.0, 1.5])
    half = stats.t.ppf(0.975, 1) * stats.sem(differences)  # paired: the seeds' own deviation of 2 is not in it
    assert (found.gain.points, found.gain.low, found.gain.high) == pytest.approx((1.25, 1.25 - half, 1.25 + half))
    assert not found.told_apart
    assert found.text() == f"+1.25 [{1.25 - half:.2f}, {1.25 + half:.2f}]: open, {found.decides} seeds would decide"
    (row,) = [row for row in table1.as_json([*rows.values()]) if row["attention"] == "se"]
    assert row["against_baseline"]["seeds_that_would_decide"] == found.decides == 3


def test_one_seed_decides_nothing(write_run, tmp_path):
    write_run("se", [95.0], attention="se")
    write_run("base", [90.0])
    text = table1.markdown(table1.table(tmp_path.iterdir()))
    assert "| resnet56 | se | 1 | <u>95.00</u> |" in text
    assert "+5.00, 1 common seed: open" in text


def test_the_same_run_twice_is_refused(write_run, tmp_path):
    write_run("a", [95.0])
    write_run("b", [95.1])
    with pytest.raises(RecalibError, match="are the same run twice: the same settings, and seed 0"):
        table1.table(tmp_path.iterdir())


def test_what_a_run_left_out_or_did_not_learn_is_said_below_the_table(write_run, tmp_path):
    folder = write_run("a", [11.0])
    rows = json.loads((folder / "metrics.jsonl").read_text())
    (folder / "metrics.jsonl").write_text(json.dumps({**rows, "images": 100}))
    facts = {"dataset": "cifar10", "classes": 10, "train_images": 500, "train_images_there": 50000,
             "test_images": 100, "test_images_there": 10000, "parameters": 1234567}  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts))
    text = table1.markdown(table1.table([folder]))
    assert "| 1,234,567 |" in text
    assert "resnet56: cifar10: 500 training images, 100 test images; 1 epochs by cifar-paper." in text
    assert "resnet56, baseline: trained on 500 of 50,000 images" in text
    assert "resnet56, baseline: evaluated on 100 of 10,000 images" in text
    assert "resnet56, baseline: no better than chance (10 %)" in text


def test_runs_of_older_versions_are_rows_of_the_same_recipe(write_run, tmp_path):
    write_run("new", [91.0], seed=0)
    old = write_run("old", [92.0], seed=1)
    config = json.loads((old / "config.json").read_text())
    del config["version"], config["task"], config["recipe"]["eval_every"], config["recipe"]["lr_batch"]
    (old / "config.json").write_text(json.dumps(config))
    (row,) = table1.table(tmp_path.iterdir())
    assert (row.runs, row.recipe) == (2, "")


def test_unfinished_runs_and_runs_of_other_recipes_stay_out(write_run, tmp_path):
    one = write_run("one", [90.0, 91.0])
    write_run("other", [90.0, 91.0], lr=0.3)
    unfinished = write_run("unfinished", [90.0, 91.0], attention="se")
    lines = (unfinished / "metrics.jsonl").read_text().splitlines()
    (unfinished / "metrics.jsonl").write_text(lines[0] + "\n")
    assert table1.finished_runs(tmp_path, one) == [one]


def test_a_run_that_is_evaluated_every_other_epoch_is_finished_after_its_last(write_run):
    folder = write_run("run", [50.0] * 4, eval_every=3)
    rows = [{"step": i, "epoch": i, "train_loss": 1.0, **({"top1": 50.0} if i in (2, 3) else {})} for i in range(4)]
    for count, finished in ((3, False), (4, True)):
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
        assert table1.is_finished(folder) == finished


def test_a_run_whose_data_give_no_score_is_finished_too(write_run):
    folder = write_run("run", [50.0] * 2)
    rows = [{"step": i, "epoch": i, "train_loss": 1.0} for i in range(2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert table1.is_finished(folder)


def test_table_3_shows_initialized_then_two_epochs_then_all(write_run):
    folders = [
        write_run("base", [69.9, 69.96, 70.03], 69.96),
        write_run("ab", [70.0, 70.11, 70.17], 69.96, attention="ab"),
        write_run("se", [60.0, 69.84, 70.15], 6.46, attention="se"),
        write_run("se_id", [70.0, 70.0, 70.0], 69.96, attention="se", identity=True),
    ]
    assert table3.markdown(table3.table(folders)).splitlines()[:6] == [
        "| Model | Start | Initialized | 2 epochs | 3 epochs |",
        "|---|---|---|---|---|",
        "| baseline |  | 69.96 | 69.96 | 70.03 |",
        "| ab | identity | 69.96 | 70.11 | 70.17 |",
        "| se | default | 6.46 | 69.84 | 70.15 |",
        "| se | identity | 69.96 | 70.00 | 70.00 |",
    ]


def test_table_3_over_seeds_has_deviations_and_bold_what_is_told_apart(write_run):
    folders = []
    for seed in range(3):
        folders.append(write_run(f"b{seed}", [70.0 + seed], 69.9, seed=seed))
        folders.append(write_run(f"s{seed}", [71.0 + seed + 0.1 * (seed == 1)], 6.5, seed=seed, attention="se"))
    text = table3.markdown(table3.table(folders))
    assert "| baseline |  | **69.90 ± 0.00** | 71.00 ± 1.00 |" in text
    assert "| se | default | 6.50 ± 0.00 | **72.03 ± 1.00** |" in text
    assert table3.as_json(table3.table(folders))[1]["epochs_std"] == [pytest.approx(1.0017, abs=1e-3)]


def test_modules_that_start_as_the_identity_come_once(tmp_path):
    job = ClassificationJob(recipe=ClassificationRecipe(weights=tmp_path))
    jobs = table3.variants(job, ["baseline", "meanrew", "se", "timm:eca"], ["default", "identity"])
    assert [(j.recipe.attention, j.recipe.identity) for j in jobs] == [
        (None, False), ("meanrew", False), ("se", False), ("se", True), ("timm:eca", False), ("timm:eca", True),
    ]  # fmt: skip

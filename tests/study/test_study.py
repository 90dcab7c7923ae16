"""`recalib study`: which networks are trained in which order, and what is said of them."""

import json
from dataclasses import replace

import pytest
import torch
from tests.jobs import started_here

import recalib
from recalib import RecalibError
from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.classification.network import build_network
from recalib.report.study import markdown, study_page
from recalib.runs.executor import Here
from recalib.study.study import Study, larger_than, results, run_study, shares_of


@pytest.fixture
def make_study(tmp_path):
    def make(**changes):
        recipe = ClassificationRecipe(dataset="cifar10", model="cifar_resnet8", normalization="cifar", epochs=2)
        job = ClassificationJob(recipe=recipe, data=tmp_path, out=tmp_path / "study", preset="small")
        return Study(**{"job": job, "attention": ("eca", "se"), "larger": "cifar_resnet14", "rounds": 0, **changes})

    return make


def names(study):
    return [job.folder.name for job in study.jobs(study.arms())]


def record(study, scores):
    """Runs as they are kept when they are finished: their metrics, without weights."""
    for job in study.jobs(study.arms()):
        found = scores.get(job.folder.name)
        if found is not None:
            job.folder.mkdir(parents=True)
            rows = [{"step": i, "epoch": i, "top1": top1} for i, top1 in enumerate(found)]
            (job.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def test_seeds_are_outermost_so_that_a_study_may_stop_at_any_moment(make_study):
    assert names(make_study(seeds=2)) == [
        f"small-cifar_resnet{depth}-{module}-seed{seed}"
        for seed in (0, 1)
        for depth, module in ((8, "baseline"), (8, "eca"), (8, "se"), (14, "baseline"))
    ]


def test_all_networks_are_trained_by_the_same_recipe(make_study):
    study = make_study()
    own = {"model": None, "attention": None, "options": (), "seed": 0}
    recipes = {replace(job.recipe, **own) for job in study.jobs(study.arms())}
    assert len(recipes) == 1


def test_placement_compares_where_a_module_goes(make_study):
    study = make_study(attention=("eca",), placement=True, larger=None, seeds=1)
    arms = {arm.name: arm.job.recipe for arm in study.arms()}
    assert list(arms) == [
        "cifar_resnet8", "cifar_resnet8 eca", "cifar_resnet8 eca stages=3", "cifar_resnet8 eca stages=2+3",
        "cifar_resnet8 eca every=2",
    ]  # fmt: skip
    assert len(set(names(study))) == 5
    deep = {name: replace(recipe, model="cifar_resnet20") for name, recipe in arms.items() if recipe.attention}
    sites = {
        name: [p.site.name for p in recalib.surgery.inserted(build_network(recipe, 10)).placements]
        for name, recipe in deep.items()
    }
    assert sites["cifar_resnet8 eca stages=3"] == ["layer3.0", "layer3.1", "layer3.2"]
    assert sites["cifar_resnet8 eca stages=2+3"] == [f"layer{i}.{j}" for i in (2, 3) for j in range(3)]
    assert sites["cifar_resnet8 eca every=2"] == ["layer1.1", "layer2.1", "layer3.1"]
    assert len(sites["cifar_resnet8 eca"]) == 9


@pytest.mark.parametrize("options", [("stages=4",), ("stages=some",), ("every=0",)])
def test_a_place_that_is_not_there_is_refused(options):
    with pytest.raises(RecalibError, match=r"stages are of 1 to 3, as in stages=2\+3; every is from 1 up"):
        build_network(ClassificationRecipe(model="cifar_resnet8", attention="eca", options=options), 10)


def test_modules_in_trained_networks_start_as_the_identity_unless_they_are_it_anyway(make_study):
    study = make_study(attention=("ab", "se"), identity=True, larger=None)
    assert [arm.job.recipe.identity for arm in study.arms()] == [False, False, True]


def test_a_network_named_twice_is_refused(make_study):
    with pytest.raises(RecalibError, match="cifar_resnet8 multi_se: named twice"):
        make_study(attention=("multi_se", "multise")).arms()


def test_the_larger_network_is_the_next_deeper_one():
    assert [larger_than(name) for name in ("resnet20", "cifar_resnet56", "resnet50", "mobilenetv2_100")] == [
        "resnet32", "cifar_resnet110", "resnet101", None,
    ]  # fmt: skip


def test_gains_are_paired_by_seed_and_said_in_a_sentence(make_study):
    study = make_study(seeds=3)
    scores = {}
    for seed, shared in enumerate((0.0, 1.0, -1.0)):
        for network, gain in (("8-baseline", 0), ("8-eca", 2.0), ("8-se", 0.05), ("14-baseline", 3.0)):
            noise = 0.02 * ((seed + len(network)) % 3)
            scores[f"small-cifar_resnet{network}-seed{seed}"] = [50.0, 80 + shared + gain + noise]
    record(study, scores)
    found = results(study)
    eca, se = found["networks"][1], found["networks"][2]
    assert eca["gain"]["points"] == pytest.approx(2.0, abs=0.05)
    assert (eca["gain"]["verdict"], se["gain"]["verdict"]) == ("better", "open")
    assert eca["mean"] == pytest.approx(82, abs=0.05)
    assert eca["std"] == pytest.approx(1.0, abs=0.05)
    assert found["sentences"][0].startswith("cifar_resnet8 eca: gain: +2.0")
    assert "no gain that 3 seeds can show" in found["sentences"][1]
    assert found["missing"] == {}
    assert found["seeds_for"]["seeds"] == 2


def test_runs_that_are_missing_are_counted_and_the_rest_is_compared(make_study):
    study = make_study(seeds=2)
    names_of = names(study)
    record(study, {name: [50.0, 80.0 + i] for i, name in enumerate(names_of[:6])})
    record(study, {names_of[6]: [50.0]})  # not at its end
    found = results(study)
    assert found["missing"] == {"cifar_resnet8 se": 1, "cifar_resnet14": 1}
    assert [len(network["scores"]) for network in found["networks"]] == [2, 2, 1, 1]
    page = study_page(found, "recalib study small")
    assert "2 of 8 runs are missing" in page
    assert "this study is open" in page


def test_one_seed_tells_nothing_of_chance(make_study):
    study = make_study(seeds=1)
    record(study, {name: [80.0 + i, 81.0 + i] for i, name in enumerate(names(study))})
    found = results(study)
    assert found["sentences"][0] == "cifar_resnet8 eca: +1.00 points with 1 seed, which tell nothing of chance"
    assert json.loads(json.dumps(found, allow_nan=False)) is not None


def test_the_page_shows_times_and_the_table_escapes(make_study):
    study = make_study(seeds=2, rounds=2)
    record(study, {name: [80.0 + i, 81.0 + i % 3] for i, name in enumerate(names(study))})
    found = results(study)
    assert set(found["times"]["ms"]) == {"cifar_resnet8", "cifar_resnet8 eca", "cifar_resnet8 se", "cifar_resnet14"}
    assert results(study)["times"] == found["times"]  # measured once
    assert found["networks"][1]["params"] == 78_042 + 9
    found["networks"][1]["name"] = "<b>eca</b>"
    page = study_page(found, "recalib study small")
    assert "<b>eca" not in page
    assert "&lt;b&gt;eca" in page
    assert markdown(found).count("\n") == 5


def test_a_study_trains_everything_and_goes_on_where_it_was_stopped(cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(Here, "start", started_here)
    recipe = ClassificationRecipe(model="cifar_resnet8", epochs=1, limit=40, batch=20)
    job = ClassificationJob(recipe=recipe, data=cifar, out=tmp_path / "study", preset="small", accelerator="cpu")
    study = Study(job=job, attention=("eca",), seeds=2, rounds=2)
    stopped = run_study(study, minutes=0.0)
    assert stopped["missing"]
    whole = run_study(study)
    assert whole["missing"] == {}
    assert json.loads((tmp_path / "study" / "study.json").read_text())["networks"] == whole["networks"]
    for folder in (tmp_path / "study").glob("small-*"):
        (folder / "last.pt").unlink()  # as records are kept
    assert run_study(study)["networks"] == whole["networks"]
    assert torch.get_num_threads() >= 1


def test_shares_of_the_larger_networks_time_are_open_where_it_is_not_slower_for_certain(make_study):
    arms = make_study(attention=("eca", "se")).arms()
    plain, eca, se, larger = (arm.name for arm in arms)
    known = {plain: [10.0] * 9, eca: [12.0] * 9, se: [30.0] * 9, larger: [18.0] * 9}
    assert shares_of(known, arms, larger) == {eca: (0.25, 0.25, 0.25), se: (1.0, 1.0, 1.0)}
    noisy = known | {larger: [8.0, 9.0, 11.0, 12.0, 10.5, 9.5, 13.0, 7.0, 10.2]}
    assert {share[1:] for share in shares_of(noisy, arms, larger).values()} == {(0.0, 1.0)}

"""What a trial tries follows from the seed and the trials it may know, and from nothing else."""

import itertools

import pytest
import yaml

from recalib.classification import recipe
from recalib.study.sweep_search import Past, Search
from recalib.study.sweep_space import read_space

EPOCHS = 9
LR = {"lr": {"distribution": "log_uniform_values", "min": 1e-3, "max": 1.0}}
WORDS = {"att": {"values": ["eca", "se", "srm"]}, "batch": {"values": [32, 64, 128]}}


@pytest.fixture
def search(tmp_path):
    """A search of a sweep file's content."""

    def make(content, seed=0, parallel=3):
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump(content))
        return Search(read_space(file, recipe("cifar-paper")), seed, parallel, EPOCHS)

    return make


def curve_of(drawn, epochs=EPOCHS):
    """A loss with its best at a learning rate of 0.1, which falls from epoch to epoch."""
    distance = abs(drawn.get("lr", 0.1) - 0.1) + drawn.get("batch", 0) / 100 + len(drawn.get("att", ""))
    return {epoch: distance + 1 / epoch for epoch in range(1, epochs + 1)}


def run_all(search, count):
    """Trials one after another."""
    past = []
    for index in range(count):
        drawn = search.draw(index, past)
        if drawn is None:
            break
        seen = {}
        end = "complete"
        for epoch, value in curve_of(drawn).items():
            seen[epoch] = value
            if search.gives_up(index, past, seen):
                end = "pruned"
                break
        past.append(Past(drawn, end, (value,) if end == "complete" else (), seen))
    return past


def test_a_grid_is_walked_in_the_files_order(search):
    past = run_all(search({"method": "grid", "parameters": WORDS}), 100)
    expected = itertools.product(["eca", "se", "srm"], [32, 64, 128])
    assert [tuple(trial.drawn.values()) for trial in past] == list(expected)


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_the_same_seed_draws_the_same_and_another_does_not(search, method):
    file = {"method": method, "parameters": LR}
    first, again, other = (run_all(search(file, seed), 6) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_nothing_is_tried_twice_in_a_finite_space(search, method):
    past = run_all(search({"method": method, "parameters": WORDS}), 100)
    assert len({tuple(trial.drawn.values()) for trial in past}) == len(past) == 9


def test_a_trial_does_not_look_at_results_it_may_not_know(search):
    """Whether the trials right before it have ended, and how, must make no difference."""
    asked = search({"method": "bayes", "parameters": LR, "early_terminate": {"type": "median", "min_trials": 1}})
    past = run_all(asked, 16)
    known = asked.known(16)
    assert known == 16 - 3 + 1
    others = [
        past[:known] + [Past(trial.drawn) for trial in past[known:]],
        past[:known] + [Past(trial.drawn, "failed") for trial in past[known:]],
        past[:known] + [Past(trial.drawn, "complete", (-100.0,), {1: -100.0}) for trial in past[known:]],
    ]
    for other in others:
        assert asked.draw(16, other) == asked.draw(16, past)
        assert asked.gives_up(16, other, {1: 5.0}) == asked.gives_up(16, past, {1: 5.0})


def test_a_search_that_learns_looks_where_it_was_good(search):
    asked = search({"method": "bayes", "parameters": LR})
    late = [trial.drawn["lr"] for trial in run_all(asked, 40)][20:]
    near = sum(0.03 < lr < 0.3 for lr in late)
    assert near > 0.6 * len(late)  # a third of the space; by chance 33 %


def test_a_search_that_does_not_learn_waits_for_nobody(search):
    assert search({"method": "random", "parameters": LR}).known(100) == 0


@pytest.mark.parametrize(
    "early", [{"type": "hyperband", "min_iter": 2}, {"type": "hyperband", "max_iter": 9, "s": 2}, {"type": "median"}]
)
def test_bad_trials_are_given_up_and_the_best_one_is_not(search, early):
    past = run_all(search({"method": "random", "parameters": LR, "early_terminate": early}), 20)
    complete, pruned = ([t for t in past if t.end == end] for end in ("complete", "pruned"))
    assert pruned
    assert min(curve_of(t.drawn)[EPOCHS] for t in complete) <= min(curve_of(t.drawn)[EPOCHS] for t in pruned)
    assert all(max(t.curve) < EPOCHS for t in pruned)


def test_a_larger_metric_can_be_the_better_one(search):
    file = {"method": "bayes", "parameters": LR, "metric": {"name": "accuracy"}}
    asked = search(file)
    past = []
    for index in range(40):
        drawn = asked.draw(index, past)
        past.append(Past(drawn, "complete", (-abs(drawn["lr"] - 0.1),)))
    near = sum(0.03 < t.drawn["lr"] < 0.3 for t in past[20:])
    assert near > 12

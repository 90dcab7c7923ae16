"""A Weights & Biases sweep file, read as it is."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from recalib.classification import recipe
from recalib.errors import RecalibError
from recalib.study.sweep_space import read_space

CHALLENGE = (Path(__file__).parents[2] / "examples" / "sweep.yaml").read_text()


@pytest.fixture
def read(tmp_path):
    """The space of a file's text, or of its content."""

    def space(content):
        file = tmp_path / "sweep.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return read_space(file, recipe("cifar-paper"))

    return space


@pytest.fixture
def parameter(read):
    """The parameter of such a specification."""
    return lambda name, spec: read({"method": "random", "parameters": {name: spec}}).parameters[0]


def test_other_peoples_names_and_values_are_turned_into_the_recipes(read):
    space = read(CHALLENGE)
    assert [p.field for p in space.parameters] == ["attention", "optimizer", "batch"]
    assert space.overrides({"att": "CBAM", "optimizer": "sgd", "batch_size": 64}) == {
        "attention": "cbam", "optimizer": "sgd", "batch": 64,
    }  # fmt: skip
    assert {space.overrides(drawn)["attention"] for drawn in space.combinations} == {"eca", "cbam", "se", "triplet"}
    assert len(space.combinations) == 24


def test_the_loss_is_that_of_images_set_aside(read):
    [metric] = read(CHALLENGE).metrics
    assert (metric.column, metric.goal) == ("holdout_loss", "minimize")


def test_what_starts_other_peoples_programs_is_ignored_with_a_word(read):
    assert read(CHALLENGE + "command: [python, train.py]\n").notes == (
        "program, command: ignored, recalib trains by itself",
    )


@pytest.mark.parametrize("word", ["none", "Vanilla", None])
def test_no_attention_has_many_names(parameter, word):
    assert parameter("att", {"values": [word, "se"]}).value(word) is None


def test_options_of_attention_are_parameters_too(read):
    space = read({"parameters": {"ksize": {"values": [3, 5]}, "options.reduction": {"value": 4}}})
    assert [p.field for p in space.parameters] == ["options.kernel_size", "options.reduction"]


def test_nested_parameters_are_flat_ones(read):
    space = read({"parameters": {"optimizer": {"parameters": {"lr": {"min": 0.1, "max": 0.2}}}, "wd": {"value": 0.0}}})
    assert [p.field for p in space.parameters] == ["lr", "weight_decay"]


def test_a_distribution_that_is_not_named_follows_from_the_bounds(parameter):
    assert parameter("batch", {"min": 8, "max": 10}).drawn == (8, 9, 10)
    assert parameter("lr", {"min": 0.1, "max": 1.0}).drawn is None
    assert parameter("lr", {"value": 1}).drawn == (1,)


DRAWS = np.linspace(0.0005, 0.9995, 1000)


@pytest.mark.parametrize(
    ("spec", "median"),
    [
        ({"distribution": "normal", "mu": 0.3, "sigma": 0.01}, 0.3),
        ({"distribution": "log_normal", "mu": math.log(0.1), "sigma": 0.5}, 0.1),
        ({"distribution": "beta", "a": 2, "b": 2}, 0.5),
        ({"distribution": "q_normal", "mu": 0.3, "sigma": 0.01, "q": 0.1}, 0.3),
    ],
)
def test_distributions_that_optuna_has_not_are_drawn_by_their_quantile(parameter, spec, median):
    made = parameter("lr", spec)
    values = [made.value(u) for u in DRAWS]
    assert np.median(values) == pytest.approx(median, abs=1e-3)
    if spec["distribution"] == "normal":
        assert np.std(values) == pytest.approx(0.01, rel=0.02)
    if spec["distribution"] == "log_normal":
        assert np.std(np.log(values)) == pytest.approx(0.5, rel=0.02)
    if spec["distribution"] == "beta":
        assert np.var(values) == pytest.approx(1 / 20, rel=0.01)
    if spec["distribution"] == "q_normal":
        assert {round(v, 9) for v in values} == {0.3}


@pytest.mark.parametrize(
    ("spec", "low", "high", "log"),
    [
        ({"distribution": "uniform", "min": 0, "max": 1}, 0, 1, False),
        ({"distribution": "log_uniform", "min": -4, "max": 0}, math.exp(-4), 1, True),
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1}, 1e-4, 1, True),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 4}, math.exp(-4), 1, True),
        ({"distribution": "inv_log_uniform_values", "min": 1e-4, "max": 1}, 1e-4, 1, True),
    ],
)
def test_distributions_that_optuna_has_are_its_own(parameter, spec, low, high, log):
    made = parameter("lr", spec).distribution
    assert (made.low, made.high, made.log) == (pytest.approx(low), pytest.approx(high), log)


def test_weights_of_values_are_kept_to(parameter):
    made = parameter("batch", {"values": [32, 64], "probabilities": [0.25, 0.75]})
    assert sum(made.value(u) == 32 for u in DRAWS) == 250


def test_multiples_are_a_grid(read):
    space = read({"method": "grid", "parameters": {"lr": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}}})
    assert [space.overrides(drawn)["lr"] for drawn in space.combinations] == [0, 0.25, 0.5, 0.75, 1]


BAD = [
    ({"methods": "grid"}, "unknown key 'methods'; did you mean method?"),
    ({"method": "annealing", "parameters": {}}, "unknown method 'annealing'"),
    ({"parameters": {}}, "parameters {}: should be a mapping of names"),
    ({"parameters": {"att": {"values": ["ECAA"]}}}, "unknown attention 'ECAA'; did you mean eca"),
    ({"parameters": {"lrr": {"value": 1}}}, "unknown parameter 'lrr'; did you mean"),
    ({"parameters": {"lr": {"distribution": "gamma"}}}, "unknown distribution of parameter 'lr' 'gamma'"),
    ({"parameters": {"lr": {"distribution": "normal", "my": 1}}}, "unknown key of parameter 'lr', which is normal,"),
    ({"parameters": {"lr": {"distribution": "uniform", "min": 1}}}, "parameter 'lr': uniform needs max"),
    ({"parameters": {"lr": {"min": 1.0, "max": 0.1}}}, "parameter 'lr': "),
    ({"parameters": {"lr": {"min": "low", "max": 1}}}, "parameter 'lr': min 'low' should be a number"),
    ({"parameters": {"lr": {"values": []}}}, "parameter 'lr': values should be a list"),
    ({"parameters": {"lr": {"values": ["fast"]}}}, "parameter 'lr': 'fast' is no value of the recipe's lr"),
    ({"parameters": {"batch": {"values": [64, 6.5]}}}, "parameter 'batch': 6.5 should be a whole number"),
    ({"parameters": {"optimizer": {"values": ["lion"]}}}, "unknown value of 'optimizer' 'lion'"),
    ({"parameters": {"lr": {"values": [1, 2], "probabilities": [0.5, 0.6]}}}, "parameter 'lr': probabilities"),
    ({"parameters": {"lr": {}}}, "parameter 'lr' {}: should be a mapping"),
    ({"parameters": {"lr": {"q": 1}}}, "parameter 'lr': should have values, value, or min and max"),
    ({"parameters": {"bs": {"value": 1}, "batch": {"value": 1}}}, "batch, bs: both are the recipe's batch"),
    ({"metric": {"name": "lozz"}, "parameters": {"lr": {"value": 1}}}, "unknown metric 'lozz'; did you mean loss"),
    ({"metric": {"name": "loss", "goal": "min"}, "parameters": {"lr": {"value": 1}}}, "unknown goal 'min'"),
    ({"method": "grid", "parameters": {"lr": {"min": 0.1, "max": 1.0}}}, "method grid needs values"),
    ({"early_terminate": {"type": "envelope"}, "parameters": {"lr": {"value": 1}}}, "unknown type of early_terminate"),
    ({"early_terminate": {"type": "hyperband"}, "parameters": {"lr": {"value": 1}}}, "hyperband needs min_iter"),
    ({"run_cap": 0, "parameters": {"lr": {"value": 1}}}, "run_cap 0: should be a whole number"),
    ("[1, 2]", "is no sweep file: it should have keys"),
    ("a: [", "is no sweep file: "),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[m for _, m in BAD])
def test_what_makes_no_sense_is_named_in_one_line(read, content, message):
    with pytest.raises(RecalibError, match=re.escape(message)) as error:
        read(content)
    assert "\n" not in str(error.value)
    assert "sweep.yaml" in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecalibError, match=r"nothing\.yaml is no sweep file"):
        read_space(tmp_path / "nothing.yaml", recipe("cifar-paper"))

"""A sweep's page: complete in itself, every trial on it, whatever its parameters are."""

import pytest

from recalib.report.sweep import sweep_page


@pytest.fixture
def results():
    """Five trials of two parameters, one of them pruned and one failed."""
    trials = [
        {
            "index": i, "state": state, "params": {"att": att, "lr": lr}, "recipe": {"attention": att.lower()},
            "values": {"loss": loss} if loss else {}, "curve": {"1": 2.0, "2": loss or 2.1},
        }
        for i, (att, lr, loss, state) in enumerate(
            [
                ("ECA", 0.001, 1.5, "complete"), ("SE", 0.1, 1.25, "complete"), ("SE", 1.0, None, "pruned"),
                ("<b>SRM", 0.5, 1.75, "complete"), ("SE", 9.0, None, "failed"),
            ]
        )
    ]  # fmt: skip
    trials[-1]["error"] = "the loss is <not> finite"
    recipe = {"limit": 100, "holdout": 0.1, "epochs": 2, "dataset": "cifar10"}
    return {
        "best": trials[1], "trials": trials, "goals": {"loss": "minimize"}, "curve": "loss",
        "importances": {"lr": 0.75, "att": 0.25}, "environment": {"command": ["recalib", "sweep", "s.yaml"]},
        "settings": {"space": {"method": "bayes"}, "seed": 0, "parallel": 4, "recipe": recipe},
    }  # fmt: skip


def test_the_page_names_the_best_and_tells_every_trial(results):
    page = sweep_page(results, "recalib report sweep")
    assert "Best of 5: trial 1, att SE, lr 0.1: loss 1.25" in page
    assert page.index("<td>1.25</td>") < page.index("<td>1.5</td>") < page.index("<td>1.75</td>")
    assert "the first 100 training images, 10% of them set aside" in page
    assert "recalib sweep s.yaml\nrecalib report sweep" in page


def test_nothing_of_a_file_is_markup(results):
    page = sweep_page(results, "")
    assert "<b>SRM" not in page
    assert "<not>" not in page
    assert "Trial 4 failed: the loss is &lt;not&gt; finite" in page


def test_what_is_not_there_is_not_drawn(results):
    page = sweep_page({**results, "importances": {}, "curve": None}, "")
    assert "Importances" not in page
    assert "Curves" not in page
    assert "Pareto" not in page

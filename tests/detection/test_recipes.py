"""The facts of each detection recipe, as its authors' code has them."""

from dataclasses import replace

import pytest

from recalib.detection.recipes import RECIPES, DetectionRecipe, recipe
from recalib.errors import RecalibError
from recalib.training.schedule import learning_rate


def test_coco_1x_is_mmdetections_schedule():
    facts = recipe("coco-1x")
    assert (facts.epochs, facts.milestones, facts.batch, facts.lr) == (12, (8, 11), 16, 0.02)
    assert (facts.optimizer, facts.momentum, facts.weight_decay, facts.warmup) == ("sgd", 0.9, 1e-4, 500)
    rates = [learning_rate(facts, 1000 * epoch, 1000) for epoch in range(1, 12)]
    assert rates == pytest.approx([0.02] * 7 + [0.002] * 3 + [0.0002])


def test_coco_2x_is_twice_as_long():
    facts = recipe("coco-2x")
    assert (facts.epochs, facts.milestones) == (24, (16, 22))
    assert replace(facts, epochs=12, milestones=(8, 11)) == recipe("coco-1x")


def test_scratchdet_bdd_trains_scratchdets_ssd_for_twenty_epochs():
    facts = recipe("scratchdet-bdd")
    assert (facts.model, facts.epochs, facts.lr, facts.weight_decay) == ("ssd512_resnet34", 20, 0.03, 5e-4)
    assert (facts.weights, facts.augment, facts.batch) == (None, "ssd", 160)
    assert learning_rate(facts, 0, 1000) == pytest.approx(0.01)  # a third


def test_the_rate_climbs_over_the_warm_up_and_follows_the_batch():
    facts = DetectionRecipe(batch=4, warmup=10, warmup_from=0.1)
    assert facts.peak == pytest.approx(0.005)
    assert [learning_rate(facts, step, 100) for step in (0, 5, 10, 11)] == pytest.approx(
        [0.0005, 0.00275, 0.005, 0.005]
    )
    assert replace(facts, lr_batch=0).peak == 0.02


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_for_the_batch_it_names(name):
    assert recipe(name).peak == recipe(name).lr


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecalibError, match="unknown recipe 'coco-3x'; did you mean coco-"):
        recipe("coco-3x")


def test_frozen_norms_need_weights():
    with pytest.raises(RecalibError, match="norms 'frozen': random weights need norms that are trained"):
        DetectionRecipe(norms="frozen")


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("repeat", 0), ("lr", float("nan")), ("limit", 0)])
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(RecalibError, match=f"{field} {value}: should be"):
        DetectionRecipe(**{field: value})

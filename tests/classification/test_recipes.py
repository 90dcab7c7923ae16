"""The facts of each recipe, as its authors' code has them."""

import pytest

from recalib.classification import RECIPES, ClassificationRecipe, recipe
from recalib.errors import RecalibError
from recalib.training.schedule import learning_rate


def rates(name, epochs):
    """Learning rate in the middle of epochs, ten steps each."""
    return [learning_rate(recipe(name), 10 * epoch + 5, 10) for epoch in epochs]


def facts(name, *fields):
    return tuple(getattr(recipe(name), field) for field in fields)


def test_cifar_paper_is_section_4_1_1():
    assert facts("cifar-paper", "model", "epochs", "batch", "lr") == ("resnet56", 164, 128, 0.2)
    assert rates("cifar-paper", [0, 80, 81, 121, 122, 163]) == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_cifar_bearpaw_is_its_ancestor():
    assert facts("cifar-bearpaw", "epochs", "batch", "lr", "weight_decay", "momentum") == (164, 128, 0.1, 1e-4, 0.9)
    assert rates("cifar-bearpaw", [80, 81, 122]) == pytest.approx([0.1, 0.01, 0.001])


def test_cifar_gluon_trains_with_adam_from_xavier_and_discards_the_last_batch():
    assert facts("cifar-gluon", "optimizer", "lr", "weight_decay", "batch", "epochs", "init", "drop_last") == (
        "adam", 0.003, 1e-4, 128, 186, "xavier", True,
    )  # fmt: skip
    assert rates("cifar-gluon", [80, 81, 122]) == pytest.approx([3e-3, 3e-4, 3e-5])


def test_cifar_resnet18_is_the_reproducibility_challenge():
    assert facts("cifar-resnet18", "model", "batch", "lr", "weight_decay", "normalization", "epochs") == (
        "torchvision:resnet18", 128, 0.1, 5e-4, "imagenet", 50,
    )  # fmt: skip
    assert recipe("cifar-resnet18").milestones == (100, 150)
    assert rates("cifar-resnet18", [0, 49]) == pytest.approx([0.1, 0.1])  # its milestones were never reached


def test_imagenet_klomp_is_imagenet_py():
    assert facts("imagenet-klomp", "model", "epochs", "batch", "lr", "weight_decay") == (
        "torchvision:resnet50", 90, 256, 0.1, 1e-4,
    )  # fmt: skip
    assert rates("imagenet-klomp", [30, 31, 60, 61, 89]) == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


def test_imagenet_ecanet_divides_by_ten_every_thirty_epochs():
    assert facts("imagenet-ecanet", "epochs", "batch", "weight_decay") == (100, 256, 1e-4)
    expected = [0.1 * 0.1 ** (epoch // 30) for epoch in range(100)]
    assert rates("imagenet-ecanet", range(100)) == pytest.approx(expected)


def test_imagenet_ecanet_mobilenetv2_decays_by_two_percent_an_epoch():
    assert facts("imagenet-ecanet-mobilenetv2", "model", "epochs", "batch", "weight_decay") == (
        "torchvision:mobilenet_v2", 400, 96, 4e-5,
    )  # fmt: skip
    expected = [0.045 * 0.98**epoch for epoch in range(400)]
    assert rates("imagenet-ecanet-mobilenetv2", range(400)) == pytest.approx(expected)


def test_finetune_recipes_are_section_4_2():
    assert facts("finetune-short", "epochs") == (30,)
    assert set(rates("finetune-short", range(30))) == {0.001}
    assert rates("finetune-long", range(40)) == pytest.approx([0.01] * 20 + [0.001] * 20)


def test_cifar_fast_climbs_to_a_high_rate_and_falls_as_a_cosine_to_zero():
    assert facts("cifar-fast", "model", "epochs", "batch", "lr", "nesterov") == ("resnet56", 60, 512, 0.8, True)
    assert facts("cifar-fast", "decay_norms_and_biases", "label_smoothing", "cutmix", "ema") == (False, 0.1, 1.0, 0.998)
    assert facts("cifar-fast", "precision", "channels_last", "compile") == ("bf16-mixed", True, True)
    climbing, falling = rates("cifar-fast", range(5)), rates("cifar-fast", range(5, 60))
    assert climbing == sorted(climbing)
    assert falling == sorted(falling, reverse=True)
    assert learning_rate(recipe("cifar-fast"), 50, 10) == 0.8
    assert falling[-1] < 0.001


def test_cifar_quick_climbs_for_a_quarter_and_falls_in_a_straight_line_to_zero():
    assert facts("cifar-quick", "model", "epochs", "batch", "nesterov") == ("resnet20", 10, 128, True)
    assert facts("cifar-quick", "decay_norms_and_biases", "label_smoothing", "channels_last") == (False, 0.1, True)
    peak = recipe("cifar-quick").lr
    climbing, falling = (
        [learning_rate(recipe("cifar-quick"), step, 10) for step in r] for r in (range(26), range(25, 100))
    )
    assert climbing == pytest.approx([peak * (step + 1) / 26 for step in range(26)])
    assert falling == pytest.approx([peak * (100 - step) / 75 for step in range(25, 100)])


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"cifar-fast", "cifar-gluon", "cifar-quick"}))
def test_the_originals_use_plain_sgd_and_decay_everything(name):
    assert facts(name, "optimizer", "momentum", "nesterov", "decay_norms_and_biases") == ("sgd", 0.9, False, True)
    assert facts(name, "label_smoothing", "mixup", "cutmix", "ema", "warmup_epochs", "clip") == (0, 0, 0, 0, 0, 0)


def test_warm_up_climbs_from_near_zero_to_the_schedule():
    warm = ClassificationRecipe(lr=1.0, epochs=10, schedule="cosine", warmup_epochs=2)
    values = [learning_rate(warm, step, 10) for step in range(100)]
    assert values[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert values[20] == 1.0
    assert values[20:] == sorted(values[20:], reverse=True)
    assert values[60] == pytest.approx(0.5)
    assert 0 < values[99] < 1e-3


def test_the_linear_schedule_ends_just_above_zero():
    line = ClassificationRecipe(lr=1.0, epochs=10, schedule="linear")
    assert [learning_rate(line, step, 10) for step in (0, 50, 99)] == pytest.approx([1.0, 0.5, 0.01])


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecalibError, match="unknown recipe 'cifar-papr'; did you mean cifar-paper"):
        recipe("cifar-papr")


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch", -1), ("lr", -0.1), ("lr", float("nan")), ("ema", 1.0), ("accumulate", 0), ("limit", 0)],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(RecalibError, match=f"{field} {value}: should be"):
        ClassificationRecipe(**{field: value})

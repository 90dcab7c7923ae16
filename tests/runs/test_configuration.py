"""Configurations in JSON, YAML and TOML; every fault is one line with its path."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from recalib.errors import RecalibError
from recalib.runs.configuration import read_settings, typed


@dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int = 1
    lr: float = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    milestones: tuple[int, ...] = ()
    weights: Path | None = None

    def __post_init__(self):
        if self.epochs < 1:
            raise RecalibError(f"epochs {self.epochs}: should be at least 1")


@dataclass(frozen=True, kw_only=True)
class Job:
    recipe: Recipe = field(default_factory=Recipe)
    data: Path = Path("data")


WRITTEN = {
    "json": '{"data": "d", "recipe": {"epochs": 3, "lr": 1e-3, "milestones": [1, 2], "weights": "w.pth"}}',
    "yaml": "data: d\nrecipe:\n  epochs: 3\n  lr: 1e-3\n  milestones: [1, 2]\n  weights: w.pth\n",
    "toml": 'data = "d"\n[recipe]\nepochs = 3\nlr = 1e-3\nmilestones = [1, 2]\nweights = "w.pth"\n',
}


@pytest.mark.parametrize("form", WRITTEN)
def test_three_forms_say_the_same(form, tmp_path):
    file = tmp_path / f"config.{form}"
    file.write_text(WRITTEN[form])
    recipe = Recipe(epochs=3, lr=0.001, milestones=(1, 2), weights=Path("w.pth"))
    assert typed(Job, read_settings(file), file) == Job(recipe=recipe, data=Path("d"))


@pytest.mark.parametrize("form", WRITTEN)
def test_a_broken_file_is_one_line(form, tmp_path):
    file = tmp_path / f"config.{form}"
    file.write_text("{[ : \n =")
    with pytest.raises(RecalibError, match=f"config.{form} is no configuration: ") as caught:
        read_settings(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipe": {"epochs": "ten"}}, "c: $.recipe.epochs: expected `int`, got `str` ('ten')"),
        ({"recipe": {"epochs": 0}}, "c: $.recipe: epochs 0: should be at least 1"),
        ({"recipe": {"epochs": 1.5}}, "c: $.recipe.epochs: expected `int`, got `float` (1.5)"),
        ({"recipe": {"milestones": [1, "x"]}}, "c: $.recipe.milestones[1]: expected `int`, got `str` ('x')"),
        ({"recipe": {"optimizer": "lion"}}, "c: unknown $.recipe.optimizer 'lion'; there are adamw, sgd"),
        ({"recipe": {"epocs": 1}}, "c: unknown setting '$.recipe.epocs'; did you mean $.recipe.epochs"),
        ({"recipe": 3}, "c: $.recipe: expected `object`, got `int` (3)"),
        ({"data": 3}, "c: $.data: expected a path, got int (3)"),
        ({"dta": "x"}, "c: unknown setting '$.dta'; did you mean $.data?"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_fault_is_named_by_its_path(settings, said):
    with pytest.raises(RecalibError) as caught:
        typed(Job, settings, Path("c"))
    assert str(caught.value).startswith(said)

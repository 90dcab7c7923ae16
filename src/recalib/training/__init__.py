"""One classification loop, recipes as Python presets, evaluation."""

from recalib.training.job import Job, job_from_config
from recalib.training.recipes import RECIPES, Recipe, recipe
from recalib.training.run import Outcome, run

__all__ = ["RECIPES", "Job", "Outcome", "Recipe", "job_from_config", "recipe", "run"]

"""Image classification, a task of `recalib.training`: data, recipes, evaluation, fine-tuning."""

from recalib.classification.job import ClassificationJob
from recalib.classification.recipes import RECIPES, ClassificationRecipe, recipe
from recalib.training.lifecycle import Outcome, run

__all__ = ["RECIPES", "ClassificationJob", "ClassificationRecipe", "Outcome", "recipe", "run"]

"""One classification loop, recipes as Python presets, evaluation."""

from importlib.util import find_spec

from recalib.errors import RecalibError

if find_spec("lightning_fabric") is None:
    raise RecalibError("training and evaluation need Lightning Fabric: pip install 'recalib[train]'")

from recalib.training.job import Job, job_from_config
from recalib.training.recipes import RECIPES, Recipe, recipe
from recalib.training.run import Outcome, run

__all__ = ["RECIPES", "Job", "Outcome", "Recipe", "job_from_config", "recipe", "run"]

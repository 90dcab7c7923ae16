"""``recalib detect train``: detectors by a recipe, into run folders that can be resumed."""

from recalib.cli.training import TrainingCommand
from recalib.detection.job import DetectionJob
from recalib.detection.recipes import RECIPES

EXAMPLE = """Train a detector by a recipe; every field of the recipe is a flag.

Examples:
  recalib detect train coco-1x --data COCO --attention eca
  recalib detect train coco-1x --data COCO --attention none eca --seeds 3
  recalib detect train scratchdet-bdd --data BDD \\
    --train-domain timeofday=daytime --eval-domain timeofday=night
  recalib detect train --config runs/NAME/config.json --resume
  recalib detect train --from runs/NAME --epochs 24

Recipes: """


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    return TrainingCommand(DetectionJob, RECIPES, EXAMPLE).main(argv)

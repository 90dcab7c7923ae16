"""``recalib train``: a recipe, on networks with or without attention, into run folders that can be resumed."""

from recalib.classification import RECIPES, ClassificationJob
from recalib.cli.training import TrainingCommand

EXAMPLE = """Train a network by a recipe; every field of the recipe is a flag.

Examples:
  recalib train cifar-paper --data DIR --model resnet20 --attention eca
  recalib train cifar-paper --data DIR --attention none eca se --seeds 3
  recalib train --config runs/NAME/config.json --resume
  recalib train --from runs/NAME --epochs 200

Recipes: """


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    return TrainingCommand(ClassificationJob, RECIPES, EXAMPLE).main(argv)

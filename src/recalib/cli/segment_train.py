"""``recalib segment train``: segmentation networks by a recipe, into run folders that can be resumed."""

from recalib.cli.training import TrainingCommand
from recalib.segmentation.job import SegmentationJob
from recalib.segmentation.recipes import RECIPES

EXAMPLE = """Train a segmentation network by a recipe; every field of the recipe is a flag.

Examples:
  recalib segment train coco-deeplab --data COCO --attention none eca
  recalib segment train coco-deeplab --data FOLDER --model smp:unet:resnet34 --size 256
  recalib segment train --config runs/NAME/config.json --resume

Recipes: """


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    return TrainingCommand(SegmentationJob, RECIPES, EXAMPLE).main(argv)

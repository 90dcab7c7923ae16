"""``recalib segment``: semantic segmentation."""

from recalib.cli.training import Command
from recalib.errors import unknown
from recalib.segmentation.job import SegmentationJob
from recalib.segmentation.recipes import RECIPES

EXAMPLE = """Train a segmentation network by a recipe; every field of the recipe is a flag.

  recalib segment train coco-deeplab --data COCO --attention none eca
  recalib segment train coco-deeplab --data FOLDER --model smp:unet:resnet34 --size 256
  recalib segment train --config runs/NAME/config.json --resume

Recipes: """
USAGE = "usage: recalib segment STEP [--help] ...\n\nSemantic segmentation.\n\n  train  a network by a recipe\n"


def main(argv: list[str]) -> int:
    """Run a step; returns its exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    if argv[0] != "train":
        raise unknown("step of segment", argv[0], ("train",))
    return Command(SegmentationJob, RECIPES, EXAMPLE).main(argv[1:])

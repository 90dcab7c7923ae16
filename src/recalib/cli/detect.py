"""``recalib detect``: object detection and instance segmentation, one command a step."""

import importlib

from recalib.errors import unknown

STEPS = {
    "check": "look for what is wrong with a data set before training on it",
    "evaluate": "COCO's average precision of a trained detector, or of a result file",
    "predict": "draw boxes and masks into pictures",
    "train": "train a detector by a recipe, into a run folder that can be resumed",
}


def main(argv: list[str]) -> int:
    """Run a step; returns its exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] not in STEPS:
        raise unknown("step of detect", argv[0], STEPS)
    step = importlib.import_module(f"recalib.cli.detect_{argv[0]}")
    return int(step.main(argv[1:]))


def _usage() -> str:
    lines = "\n".join(f"  {name:<8}  {what}" for name, what in STEPS.items())
    return f"usage: recalib detect STEP [--help] ...\n\nObject detection and instance segmentation.\n\n{lines}\n"

"""``recalib segment``: semantic segmentation, one command a step."""

import importlib

from recalib.errors import unknown

STEPS = {
    "evaluate": "intersection over union of a trained network, class by class",
    "predict": "label images of pictures, and their classes drawn over them",
    "train": "train a network by a recipe, into a run folder that can be resumed",
}


def main(argv: list[str]) -> int:
    """Run a step; returns its exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<8}  {what}" for name, what in STEPS.items())
        print(f"usage: recalib segment STEP [--help] ...\n\nSemantic segmentation.\n\n{lines}\n")
        return 0 if argv else 2
    if argv[0] not in STEPS:
        raise unknown("step of segment", argv[0], STEPS)
    return int(importlib.import_module(f"recalib.cli.segment_{argv[0]}").main(argv[1:]))

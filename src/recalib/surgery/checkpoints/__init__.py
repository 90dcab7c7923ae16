"""Checkpoints: our own, and those of the projects that attention comes from."""

from recalib.surgery.checkpoints.files import header_of
from recalib.surgery.checkpoints.info import CheckpointInfo, inspect_checkpoint
from recalib.surgery.checkpoints.load import fresh_network, load_checkpoint
from recalib.surgery.checkpoints.save import save_backbone, save_checkpoint

__all__ = [
    "CheckpointInfo",
    "fresh_network",
    "header_of",
    "inspect_checkpoint",
    "load_checkpoint",
    "save_backbone",
    "save_checkpoint",
]

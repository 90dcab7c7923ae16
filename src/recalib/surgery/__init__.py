"""WHERE attention goes: sites in a network; insertion and removal; checkpoints."""

from recalib.surgery.build import checked_name
from recalib.surgery.checkpoints import CheckpointInfo, inspect_checkpoint, load_checkpoint, save_checkpoint
from recalib.surgery.dry_run import example_input
from recalib.surgery.finished import refuse_finished
from recalib.surgery.insert import fuse_, insert_, remove_, repeat_
from recalib.surgery.insertion import Insertion, Placement, attention_of, inserted
from recalib.surgery.sites import Site, sites

__all__ = [
    "CheckpointInfo",
    "Insertion",
    "Placement",
    "Site",
    "attention_of",
    "checked_name",
    "example_input",
    "fuse_",
    "insert_",
    "inserted",
    "inspect_checkpoint",
    "load_checkpoint",
    "refuse_finished",
    "remove_",
    "repeat_",
    "save_checkpoint",
    "sites",
]

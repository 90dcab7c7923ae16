"""WHERE attention goes: sites in a network; insertion and removal; checkpoints."""

from recalib.surgery.insert import fuse_, insert_, remove_, repeat_
from recalib.surgery.insertion import Insertion, Placement, inserted
from recalib.surgery.sites import Site, sites

__all__ = ["Insertion", "Placement", "Site", "fuse_", "insert_", "inserted", "remove_", "repeat_", "sites"]

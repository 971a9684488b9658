"""Designs of subsets: describe them, draw subsets, and pack masks into bits."""

from datamodels.run.designs.design import KINDS, Design, Kind, unseen_from
from datamodels.run.designs.drawing import subset, subsets
from datamodels.run.designs.packing import check_packed, mask_of, pack, unpack

__all__ = ["KINDS", "Design", "Kind", "check_packed", "mask_of", "pack", "subset", "subsets", "unpack", "unseen_from"]

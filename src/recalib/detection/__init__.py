"""Detection and instance segmentation, a task of `recalib.training`: torchvision's detectors with attention."""

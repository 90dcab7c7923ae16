"""Detection and instance segmentation on torchvision's detectors, with attention in the backbone."""

"""Networks that torchvision and timm lack, and one naming rule for every network."""

from recalib.models.cifar_resnet import CifarResNet, cifar_resnet
from recalib.models.create import create_model

__all__ = ["CifarResNet", "cifar_resnet", "create_model"]

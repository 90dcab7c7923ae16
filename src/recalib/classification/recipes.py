"""Presets of published and own trainings; every field is a flag of `recalib train`.

Figures of other people's recipes are those of their code where it differs from their text; the comments say which.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from recalib.errors import RecalibError, unknown
from recalib.training.recipe import Recipe

Dataset = Literal["cifar10", "cifar100", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class ClassificationRecipe(Recipe):
    """Everything that decides the result of a training, besides the data.

    Attributes:
        dataset: cifar10, cifar100 or imagenet (any data in ImageNet's folders); by default what the folder holds.
        model: name of the network, as `recalib.models.create_model` takes it: resnet56, resnet56_bottleneck, ...;
            by default the one that the weights are of.
        init: initial weights of convolutions and linear layers, where none are loaded.
        normalization: mean and std of the input; by default those of the weights, or else the data set's.
        image_size: side of a training crop of ImageNet; tests see the centre of an image 256/224 as large.
        label_smoothing: share of the target spread over all classes.
        mixup: Beta's parameter; 0 for none.
        cutmix: Beta's parameter; 0 for none; with mixup each batch draws one of the two.
    """

    dataset: Dataset | None = None
    model: str | None = None
    init: Literal["default", "xavier"] = "default"
    normalization: str | None = None
    image_size: int = 224
    epochs: int = 164
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = (*Recipe.AT_LEAST_ONE, "image_size")
    FROM_ZERO: ClassVar[tuple[str, ...]] = (*Recipe.FROM_ZERO, "mixup", "cutmix")
    BELOW_ONE: ClassVar[tuple[str, ...]] = (*Recipe.BELOW_ONE, "label_smoothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and self.init != "default":
            raise RecalibError(f"init {self.init!r}: weights that are loaded are not initialised")


# bearpaw/pytorch-classification, the ancestor of the paper's CIFAR code: batch 128, 0.1, 164 epochs, /10 at 81 and 122
_BEARPAW = ClassificationRecipe(
    dataset="cifar10", model="resnet56", epochs=164, batch=128, lr=0.1, weight_decay=1e-4, milestones=(81, 122)
)

# Klomp's imagenet.py: torchvision's ResNet has its initial weights, and its stride in the 3x3 convolution; the
# learning rate falls when the epoch, counted from 0, is 31 and 61
_KLOMP = ClassificationRecipe(
    dataset="imagenet",
    model="torchvision:resnet50",
    epochs=90,
    batch=256,
    lr=0.1,
    weight_decay=1e-4,
    milestones=(31, 61),
)

RECIPES = {
    "cifar-bearpaw": _BEARPAW,
    # Klomp et al. 2023, section 4.1.1; the paper says nothing of weight decay
    "cifar-paper": replace(_BEARPAW, lr=0.2),
    # mnikitin/channel-attention, its README's command: Adam, Xavier, last batch discarded
    "cifar-gluon": replace(
        _BEARPAW, model="resnet20", optimizer="adam", lr=0.003, epochs=186, init="xavier", drop_last=True
    ),
    # the ECA-Net reproducibility challenge: ImageNet's ResNet-18, stem included, on 32x32 images, with ImageNet's
    # normalisation; its runs were of 50 epochs, so that the milestones in its code were never reached
    "cifar-resnet18": ClassificationRecipe(
        dataset="cifar10", model="torchvision:resnet18", normalization="imagenet", epochs=50, batch=128, lr=0.1,
        weight_decay=5e-4, milestones=(100, 150),
    ),
    # ours: a modern schedule for a few minutes of one GPU; no decay of norms and biases, averaged weights
    "cifar-fast": ClassificationRecipe(
        dataset="cifar10", model="resnet56", epochs=60, batch=512, lr=0.8, nesterov=True, weight_decay=5e-4,
        decay_norms_and_biases=False, schedule="cosine", warmup_epochs=5, label_smoothing=0.1, cutmix=1.0, ema=0.998,
        precision="bf16-mixed", channels_last=True, compile=True, drop_last=True,
    ),
    # ours: for an hour of a small machine; a triangular rate, the rest as in cifar-fast, without what only a GPU pays
    # back. The peak of the rate was chosen on a tenth of the training images set aside (results/study/trials)
    "cifar-quick": ClassificationRecipe(
        dataset="cifar10", model="resnet20", epochs=10, batch=128, lr=0.4, nesterov=True, weight_decay=5e-4,
        decay_norms_and_biases=False, schedule="linear", warmup_epochs=2.5, label_smoothing=0.1, channels_last=True,
        drop_last=True,
    ),
    "imagenet-klomp": _KLOMP,
    # BangguWu/ECANet main.py: 0.1 * 0.1^(epoch // 30)
    "imagenet-ecanet": replace(_KLOMP, epochs=100, milestones=(30, 60, 90)),
    # BangguWu/ECANet light_main.py: 0.045 * 0.98^epoch
    "imagenet-ecanet-mobilenetv2": replace(
        _KLOMP, model="torchvision:mobilenet_v2", epochs=400, batch=96, lr=0.045, weight_decay=4e-5,
        schedule="exponential", gamma=0.98, milestones=(),
    ),
    # Klomp et al. 2023, section 4.2: at the pretrained network's last learning rate; and first out of its minimum
    "finetune-short": replace(_KLOMP, dataset=None, model=None, epochs=30, lr=0.001, milestones=()),
    "finetune-long": replace(_KLOMP, dataset=None, model=None, epochs=40, lr=0.01, milestones=(20,)),
}  # fmt: skip


def recipe(name: str) -> ClassificationRecipe:
    """The preset of that name.

    Raises:
        RecalibError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]

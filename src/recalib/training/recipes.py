"""How networks were and are trained: presets whose every field is a flag of `recalib train`.

Figures of other people's recipes are those of their code where it differs from their text; the comments say which.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from recalib.errors import RecalibError, unknown

Dataset = Literal["cifar10", "cifar100", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the result of a training, besides the data.

    Attributes:
        dataset: cifar10, cifar100 or imagenet (any data in ImageNet's folders); by default what the folder holds.
        model: name of the network, as `recalib.models.create_model` takes it: resnet56, resnet56_bottleneck, ...;
            by default the one that the weights are of.
        attention: channel attention module to insert.
        options: of the attention module, such as ``kernel_size=5``.
        identity: start every attention module as the identity.
        weights: checkpoint to start from; attention is inserted into it.
        init: of the convolutions and linear layers, where there are no weights.
        normalization: of the input; by default what the weights were trained with, or else the data set's.
        image_size: side of a training crop of ImageNet; tests see the centre of an image 256/224 as large.
        holdout: share of the training images that is set aside and not trained on; the best epoch is the one that is
            best on them. With none set aside no epoch is chosen: the test set is never used to choose.
        limit: take the first so many training and test images only, to try things out.
        epochs: passes over the training images.
        batch: images a step, over all processes and accumulation.
        optimizer: adam's weight decay is an L2 penalty, adamw's is decoupled.
        lr: the highest learning rate.
        momentum: of sgd.
        nesterov: Nesterov's form of the momentum.
        weight_decay: of everything but what modules mark.
        decay_norms_and_biases: decay these too, as the original recipes do.
        schedule: of the learning rate, after the warm-up.
        milestones: of the step schedule: epochs, counted from 0, at which the learning rate is multiplied by gamma.
        gamma: of the step schedule, and each epoch of the exponential one.
        warmup_epochs: linear from zero.
        label_smoothing: share of the target spread over all classes.
        mixup: Beta's parameter; 0 for none.
        cutmix: Beta's parameter; 0 for none; with mixup each batch draws one of the two.
        ema: decay of an exponential moving average of the weights, which is then what is evaluated; 0 for none.
        accumulate: parts a batch is split into.
        clip: largest norm of the gradient; 0 for no limit.
        precision: bf16-mixed and 16-mixed are automatic mixed precision.
        channels_last: memory layout of images and convolutions.
        compile: through torch.compile.
        freeze_norms: keep the backbone's norms as they are, parameters and running statistics.
        sync_batchnorm: batch statistics over all processes.
        drop_last: leave out the images that do not fill the last batch.
        seed: of initial weights, order, augmentation and dropout.
    """

    dataset: Dataset | None = None
    model: str | None = None
    attention: str | None = None
    options: tuple[str, ...] = ()
    identity: bool = False
    weights: Path | None = None
    init: Literal["default", "xavier"] = "default"
    normalization: str | None = None
    image_size: int = 224
    holdout: float = 0.0
    limit: int | None = None
    epochs: int = 164
    batch: int = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norms_and_biases: bool = True
    schedule: Literal["step", "cosine", "linear", "exponential"] = "step"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    accumulate: int = 1
    clip: float = 0.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    compile: bool = False
    freeze_norms: bool = False
    sync_batchnorm: bool = False
    drop_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None and self.init != "default":
            raise RecalibError(f"init {self.init!r}: weights that are loaded are not initialised")
        for name in ("epochs", "batch", "accumulate", "image_size"):
            if getattr(self, name) < 1:
                raise RecalibError(f"{name} {getattr(self, name)}: should be at least 1")
        if self.limit is not None and self.limit < 1:
            raise RecalibError(f"limit {self.limit}: should be at least 1")
        for name in ("lr", "momentum", "weight_decay", "gamma", "warmup_epochs", "mixup", "cutmix", "clip", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise RecalibError(f"{name} {getattr(self, name)}: should be a number from 0 up")
        for name in ("ema", "label_smoothing", "holdout"):
            if not 0 <= getattr(self, name) < 1:
                raise RecalibError(f"{name} {getattr(self, name)}: should be from 0 to below 1")


# bearpaw/pytorch-classification, the ancestor of the paper's CIFAR code: batch 128, 0.1, 164 epochs, /10 at 81 and 122
_BEARPAW = Recipe(
    dataset="cifar10", model="resnet56", epochs=164, batch=128, lr=0.1, weight_decay=1e-4, milestones=(81, 122)
)

# Klomp's imagenet.py: torchvision's ResNet has its initial weights, and its stride in the 3x3 convolution; the
# learning rate falls when the epoch, counted from 0, is 31 and 61
_KLOMP = Recipe(
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
    "cifar-resnet18": Recipe(
        dataset="cifar10", model="torchvision:resnet18", normalization="imagenet", epochs=50, batch=128, lr=0.1,
        weight_decay=5e-4, milestones=(100, 150),
    ),
    # ours: a modern schedule for a few minutes of one GPU; no decay of norms and biases, averaged weights
    "cifar-fast": Recipe(
        dataset="cifar10", model="resnet56", epochs=60, batch=512, lr=0.8, nesterov=True, weight_decay=5e-4,
        decay_norms_and_biases=False, schedule="cosine", warmup_epochs=5, label_smoothing=0.1, cutmix=1.0, ema=0.998,
        precision="bf16-mixed", channels_last=True, compile=True, drop_last=True,
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


def recipe(name: str) -> Recipe:
    """The preset of that name.

    Raises:
        RecalibError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]

"""Base of the recipes of all tasks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from recalib.errors import RecalibError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the result of a training, besides the data; a task adds its own fields.

    Attributes:
        model: name of the network.
        attention: channel attention module to insert.
        options: the attention module's, such as ``kernel_size=5``, and its places: ``stages=2+3``, ``every=2``.
        identity: start every fresh attention module as the identity.
        weights: checkpoint or run to start from; attention is inserted into it.
        holdout: share of the training images that is set aside and not trained on; the best epoch is the one that is
            best on them. With none set aside no epoch is chosen: the test set is never used to choose.
        limit: take so many training images only, to try things out.
        eval_limit: take so many test images only; by default as many as `limit` says, and 0 for all.
        epochs: their number; each is as many passes over the training images as `repeat` says.
        repeat: passes over the training images in an epoch, each in another order.
        eval_every: epochs between evaluations; there is one after the last epoch in any case.
        batch: images a step, over all processes and accumulation.
        optimizer: adam's weight decay is an L2 penalty, adamw's is decoupled.
        lr: the highest learning rate, for batches of `lr_batch` images.
        lr_batch: the learning rate follows the batch size in proportion; 0 takes it as it is.
        momentum: sgd's.
        nesterov: Nesterov's form of the momentum.
        weight_decay: decay of all but the parameters that modules mark.
        decay_norms_and_biases: decay these too, as the original recipes do.
        schedule: course of the learning rate after the warm-up.
        milestones: epochs of the step schedule, counted from 0, at which the learning rate is multiplied by gamma.
        gamma: factor of the step schedule, and of each epoch of the exponential one.
        warmup_epochs: linear from zero.
        warmup: steps of a warm-up that multiplies the schedule, instead of one counted in epochs.
        warmup_from: share of the learning rate that a warm-up counted in steps begins with.
        ema: decay of an exponential moving average of the weights, which is then what is evaluated; 0 for none.
        accumulate: parts a batch is split into.
        clip: largest norm of the gradient; 0 for no limit.
        precision: bf16-mixed and 16-mixed are automatic mixed precision; the latter needs a GPU.
        channels_last: memory layout of images and convolutions.
        compile: through torch.compile.
        compile_mode: reduce-overhead replays steps as CUDA graphs, for networks too small to keep a GPU busy.
        freeze_norms: keep the network's norms as they are, parameters and running statistics; attention's go on.
        trained: part that learns: the whole network, its attention, or its attention and its norms. Running statistics
            of norms follow the images in any case, unless norms are frozen.
        sync_batchnorm: batch statistics over all processes.
        drop_last: leave out the images that do not fill the last batch.
        seed: decides initial weights, order, augmentation, dropout and sampling.
    """

    model: str | None = None
    attention: str | None = None
    options: tuple[str, ...] = ()
    identity: bool = False
    weights: Path | None = None
    holdout: float = 0.0
    limit: int | None = None
    eval_limit: int | None = None
    epochs: int = 100
    repeat: int = 1
    eval_every: int = 1
    batch: int = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.1
    lr_batch: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norms_and_biases: bool = True
    schedule: Literal["step", "cosine", "linear", "exponential"] = "step"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup: int = 0
    warmup_from: float = 0.0
    ema: float = 0.0
    accumulate: int = 1
    clip: float = 0.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    compile: bool = False
    compile_mode: Literal["default", "reduce-overhead"] = "default"
    freeze_norms: bool = False
    trained: Literal["all", "attention", "attention+norms"] = "all"
    sync_batchnorm: bool = False
    drop_last: bool = False
    seed: int = 0

    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = ("epochs", "repeat", "eval_every", "batch", "accumulate", "limit")
    FROM_ZERO: ClassVar[tuple[str, ...]] = (
        "lr", "lr_batch", "momentum", "weight_decay", "gamma", "warmup_epochs", "warmup", "warmup_from", "clip",
        "eval_limit", "seed",
    )  # fmt: skip
    BELOW_ONE: ClassVar[tuple[str, ...]] = ("ema", "holdout")

    def __post_init__(self) -> None:
        for name in self.AT_LEAST_ONE:
            if self._given(name) and getattr(self, name) < 1:
                raise RecalibError(f"{name} {getattr(self, name)}: should be at least 1")
        for name in self.FROM_ZERO:
            if self._given(name) and not 0 <= getattr(self, name) < float("inf"):
                raise RecalibError(f"{name} {getattr(self, name)}: should be a number from 0 up")
        for name in self.BELOW_ONE:
            if not 0 <= getattr(self, name) < 1:
                raise RecalibError(f"{name} {getattr(self, name)}: should be from 0 to below 1")
        if self.attention is None and (self.options or self.identity):
            given = " ".join(["identity"] * self.identity + [*self.options])
            raise RecalibError(f"{given}: belongs to an attention module; name one with --attention")
        if self.freeze_norms and self.trained == "attention+norms":
            raise RecalibError("freeze_norms and trained attention+norms: norms are either frozen or trained")
        if self.warmup and self.warmup_epochs:
            raise RecalibError(f"warmup {self.warmup} and warmup_epochs {self.warmup_epochs:g}: give one of the two")

        if self.compile_mode != "default" and (not self.compile or self.accumulate > 1):
            raise RecalibError(f"compile_mode {self.compile_mode}: goes with compile, and with accumulate 1")

    def _given(self, name: str) -> bool:
        return getattr(self, name) is not None

    @property
    def compiled(self) -> str | None:
        """The mode of torch.compile; None for a network that is not compiled."""
        return self.compile_mode if self.compile else None

    @property
    def peak(self) -> float:
        """The learning rate after the warm-up, for this batch size."""
        return self.lr * self.batch / self.lr_batch if self.lr_batch else self.lr

    @property
    def test_images(self) -> int | None:
        """So many test images are evaluated on; None for all."""
        return self.limit if self.eval_limit is None else self.eval_limit or None


def attention_options(options: tuple[str, ...]) -> dict[str, Any]:
    """Options written ``name=value``, numbers and true/false read as such.

    Raises:
        RecalibError: for anything else.
    """
    pairs = [option.partition("=") for option in options]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise RecalibError(f"option {name + equals + value!r}: write it as name=value, such as kernel_size=5")
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text

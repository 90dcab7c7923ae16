"""One run of a recipe: on which data, into which folder, on which devices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recalib.runs.job import as_config, from_config
from recalib.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe and where it runs.

    Attributes:
        recipe: what is trained, and how.
        data: folder of the data set: CIFAR's official files, or ImageNet's train and val.
        out: folder of run folders.
        name: of the run's folder; by default made from model, attention, recipe and seed.
        preset: the recipe's name, for the record.
        accelerator: by default the best this machine has.
        devices: processes, one a device.
        workers: processes that read images, for data that does not stay on the device.
        reader: of folders of images for training: torchvision, or NVIDIA DALI (an extra), which decodes on a GPU.
        strict: stop at the first unreadable image instead of replacing it.
        on_nan: what to do when the loss is not finite: stop, or go back once to the last checkpoint and another order.
        save_every: steps between checkpoints, besides the one after every epoch; 0 for none.
        track: live trackers beside metrics.jsonl: tensorboard, wandb.
    """

    recipe: Recipe = field(default_factory=Recipe)
    data: Path = Path("data")
    out: Path = Path("runs")
    name: str | None = None
    preset: str = "own"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    workers: int = 4
    reader: Literal["torchvision", "dali"] = "torchvision"
    strict: bool = False
    on_nan: Literal["stop", "rollback"] = "stop"
    save_every: int = 0
    track: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The run's folder."""
        recipe = self.recipe
        parts = [
            self.preset,
            recipe.model or "weights",
            recipe.attention or "baseline",
            *(["identity"] if recipe.identity else []),
        ]
        return self.out / (self.name or "-".join([*parts, f"seed{recipe.seed}"]).replace(":", "-"))

    def config(self) -> dict[str, Any]:
        """Everything, as JSON; `job_from_config` makes the same job of it."""
        return as_config(self)


def job_from_config(config: Mapping[str, Any], source: Path) -> Job:
    """The job that a run's config.json describes.

    Raises:
        RecalibError: for settings that this version does not know, naming them.
    """
    return from_config(Job, config, source)

"""One run of a detection recipe: on which data, into which folder, on which devices."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recalib.detection.recipes import Recipe
from recalib.runs.job import as_config


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe and where it runs.

    Attributes:
        recipe: what is trained, and how.
        data: folder of the data set: COCO's or BDD100k's layout.
        train_split: its part to train on.
        eval_split: its part to evaluate on.
        out: folder of run folders.
        name: of the run's folder; by default made from model, attention, recipe and seed.
        preset: the recipe's name, for the record.
        accelerator: by default the best this machine has.
        devices: processes, one a device.
        workers: processes that read images.
        strict: stop at anything wrong with the data instead of leaving it out.
        on_nan: what to do when the loss is not finite: stop, or go back once to the last checkpoint and another order.
        save_every: steps between checkpoints, besides the one after every epoch; 0 for none.
        track: live trackers beside metrics.jsonl: tensorboard, wandb.
        watch: an image that is drawn after every epoch, for recalib detect predict --watch-training.
    """

    recipe: Recipe = field(default_factory=Recipe)
    data: Path = Path("data")
    train_split: str = "train"
    eval_split: str = "val"
    out: Path = Path("runs")
    name: str | None = None
    preset: str = "own"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    workers: int = 4
    strict: bool = False
    on_nan: Literal["stop", "rollback"] = "stop"
    save_every: int = 0
    track: tuple[str, ...] = ()
    watch: Path | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        recipe = self.recipe
        extras = [f"ibn{recipe.ibn}"] * (recipe.ibn != "none") + ["style"] * recipe.style_adversarial
        parts = [self.preset, recipe.model, recipe.attention or "baseline", *extras, f"seed{recipe.seed}"]
        return self.out / (self.name or "-".join(parts).replace(":", "-"))

    def config(self) -> dict[str, Any]:
        """Everything, as JSON; `recalib.runs.job.from_config` makes the same job of it."""
        return as_config(self)

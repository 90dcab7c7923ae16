"""Jobs - a recipe, its data, its folder, its devices - and their configurations, JSON of a versioned form."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from recalib.errors import RecalibError
from recalib.runs.configuration import typed
from recalib.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from recalib.training.task import Task

# settings that do not decide the result, so that a resumed run may change them
MAY_DIFFER = frozenset({
    "data", "out", "name", "workers", "track", "save_every", "log_every", "on_nan", "watch", "version",
})  # fmt: skip

BY_HAND = (".yaml", ".yml", ".toml")  # configurations that no run wrote: of today's version where they name none
VERSION = 3
# What configurations of a version may lack, and what it was then: an absent key is the default of its time. A new
# field, or a default that changes, makes a new version, and a run of the one before is recorded in tests/recorded.
_THEN: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "classification": {
            "eval_limit": None, "repeat": 1, "eval_every": 1, "lr_batch": 0, "warmup": 0, "warmup_from": 0.0,
            "log_every": 50,
        },
        "detection": {
            "holdout": 0.0, "eval_limit": 0, "nesterov": False, "decay_norms_and_biases": True, "schedule": "step",
            "warmup_epochs": 0.0, "ema": 0.0, "accumulate": 1, "channels_last": False, "compile": False,
            "freeze_norms": False, "drop_last": False, "log_every": 50,
        },
    },
    2: {
        task: {"trained": "all", "compile_mode": "default"}
        for task in ("classification", "detection", "segmentation")
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe and where it runs; a task adds its own fields, and says how its data and network are opened.

    Attributes:
        recipe: network and training.
        data: folder of the data set.
        out: folder of run folders.
        name: the run's folder; by default made from recipe, model, attention and seed.
        preset: the recipe's name, for the record.
        accelerator: by default the best this machine has.
        devices: processes, one a device.
        workers: processes that read images, for data that does not stay on the device.
        strict: stop at anything wrong with the data instead of leaving it out or replacing it.
        on_nan: answer to a loss that is not finite: stop, or go back once to the last checkpoint and another order.
        save_every: steps between checkpoints, besides the one after every epoch; 0 for none.
        log_every: steps between rows of metrics.jsonl, besides the one after every epoch; 0 for none.
        track: live trackers beside metrics.jsonl: tensorboard, wandb, mlflow, trackio.
    """

    recipe: Recipe = field(default_factory=Recipe)
    data: Path = Path("data")
    out: Path = Path("runs")
    name: str | None = None
    preset: str = "own"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    workers: int = 4
    strict: bool = False
    on_nan: Literal["stop", "rollback"] = "stop"
    save_every: int = 0
    log_every: int = 50
    track: tuple[str, ...] = ()

    task: ClassVar[str]
    command: ClassVar[str]  # of recalib

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out / (self.name or "-".join([*self.name_parts(), f"seed{self.recipe.seed}"]).replace(":", "-"))

    def name_parts(self) -> list[str]:
        """Words that the folder is named after, besides the seed, where no name is given."""
        recipe = self.recipe
        start = ["identity"] * recipe.identity
        return [self.preset, recipe.model or "weights", recipe.attention or "baseline", *start]

    def next_command(self) -> str:
        """Command for what comes after a finished run."""
        raise NotImplementedError

    def preset_recipe(self) -> Recipe | None:
        """The recipe that the job was made from; None where it was made from none that is known."""
        return None

    def resolved(self) -> Self:
        """The job with whatever its data and weights decide written out.

        Raises:
            RecalibError: where they cannot be read, or do not decide it.
        """
        return self

    def open(self, fabric: "Fabric") -> "Task":
        """Data and network of a resolved job.

        Raises:
            RecalibError: for data or a network that are not there, or do not belong together.
        """
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Everything, as JSON; `from_config` makes the same job of it."""
        return {"version": VERSION, "task": self.task, **plain(dataclasses.asdict(self))}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: Path) -> Self:
        """The job that a configuration describes: a run's, of this version or an older one, or one written by hand.

        One written by hand, in YAML or TOML, may name a ``preset``: what it leaves out is as in that recipe.

        Args:
            config: content of the file.
            source: its path, for messages.

        Raises:
            RecalibError: for a run of another task, and for a setting that is unknown or wrong, naming its path.
        """
        if source.suffix in BY_HAND:
            config = {"version": VERSION, **config}
        config = upgraded(config, cls.task)
        if config["task"] != cls.task:
            raise RecalibError(f"{source} is a run of {config['task']}, not of {cls.task}")
        settings = {key: value for key, value in config.items() if key not in ("version", "task")}
        if source.suffix in BY_HAND and "preset" in settings:
            base = cls(preset=str(settings["preset"])).preset_recipe()
            if base is None:
                raise RecalibError(f"{source}: $.preset: there is no recipe {settings['preset']!r}")
            settings["recipe"] = plain(dataclasses.asdict(base)) | settings["recipe"]
        return typed(cls, settings, source)


def upgraded(config: Mapping[str, Any], task: str = "classification") -> dict[str, Any]:
    """A configuration of any version in today's form.

    Args:
        config: content of a config.json.
        task: that it is of, where nothing in it says so.

    Raises:
        RecalibError: for one of a later version than this one.
    """
    version = config.get("version", 1)
    first = {"train_split": "detection", "reader": "classification"}  # keys of the first version
    task = config.get("task") or next((first[key] for key in first if key in config), task)
    if version not in range(1, VERSION + 1):
        raise RecalibError(f"a configuration of version {version!r}: this version of recalib knows 1 to {VERSION}")
    recipe = config.get("recipe", {})
    if not isinstance(recipe, Mapping):
        raise RecalibError(f"a configuration whose recipe is {recipe!r}: it should be an object of names and values")
    recipe = dict(recipe)
    whole = {**config, "recipe": recipe, "version": VERSION, "task": task}
    for then in (_THEN[v].get(task, {}) for v in range(version, VERSION)):
        for key, value in then.items():
            (whole if key in _JOB else recipe).setdefault(key, value)
    return whole


def plain(value: Any) -> Any:
    """A value as JSON has it: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _names(kind: type) -> set[str]:
    return {each.name for each in dataclasses.fields(kind)}


_JOB = _names(Job)

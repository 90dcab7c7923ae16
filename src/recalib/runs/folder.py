"""A run's folder: its configuration, environment, metrics and checkpoints."""

import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from recalib.errors import RecalibError, WorkFailed
from recalib.runs.atomic import write_atomically, write_json
from recalib.runs.configuration import read_settings
from recalib.runs.environment import environment
from recalib.runs.lock import FolderLock

NAMED = ("hf-hub:", "timm:", "torchvision:")  # of a network whose weights are published, not of a file

CONFIG, STATE, FACTS = "config.json", "last.pt", "facts.json"


class RunFolder:
    """``runs/NAME``: config, environment, facts, metrics.jsonl, last.pt (to resume) and weights (to use).

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FolderLock(path)

    @property
    def state(self) -> Path:
        """The checkpoint a run resumes from."""
        return self.path / STATE

    def begin(
        self,
        config: Mapping[str, Any],
        *,
        resume: bool,
        may_differ: frozenset[str] = frozenset(),
        today: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
        patience: float = 0.0,
    ) -> bool:
        """Make the folder, or re-enter it, and lock it; call it before training starts, and `end` after.

        Args:
            config: everything that decides the result, as JSON.
            resume: go on from a checkpoint that is there.
            may_differ: keys that do not decide the result.
            today: brings a configuration that an older version wrote into the form of ``config``.
            patience: seconds to wait for another process that is writing it.

        Returns:
            Whether there is a checkpoint to go on from.

        Raises:
            RecalibError: where the folder holds a run and ``resume`` is false, a run of another configuration, or one
                that another process is writing.
            WorkFailed: where it cannot be written to.
        """
        if (self.path / CONFIG).exists() and not resume:
            raise RecalibError(f"{self.path} holds a run already; add --resume to go on with it, or choose --name")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkFailed(f"{self.path} cannot be made: {error.strerror}") from None
        self.lock.acquire(patience)
        if (self.path / CONFIG).exists():
            self._same(config, may_differ, today)
        for left in self.path.glob(".*.tmp"):  # a kill in the middle of a write
            left.unlink()
        if not self.state.exists():
            write_json(self.path / "environment.json", environment())
            write_json(self.path / CONFIG, config)
        return self.state.exists()

    def end(self) -> None:
        """Let another process have the folder."""
        self.lock.release()

    def _same(self, config: Mapping[str, Any], may_differ: frozenset[str], today: Callable[[Any], Any]) -> None:
        before = flat(today(read_config(self.path / CONFIG)))
        now = flat(json.loads(json.dumps(config, default=str)))
        changed = [k for k in sorted({*before, *now} - may_differ) if before.get(k) != now.get(k)]
        if changed:
            said = ", ".join(f"{k} {before.get(k)!r}, now {now.get(k)!r}" for k in changed)
            raise RecalibError(f"{self.path} was begun with other settings: {said}")

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, atomically.

        Raises:
            WorkFailed: where it cannot be written; the one before is kept.
        """
        whole = io.BytesIO()  # torch's own writer does not say that a disk is full
        torch.save(dict(state), whole)
        write_atomically(self.state, lambda fresh: fresh.write_bytes(whole.getbuffer()))

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write what is known of the run's data and network, for tables and pages."""
        write_json(self.path / FACTS, facts)

    def load(self) -> dict[str, Any]:
        """The checkpoint, tensors on the CPU.

        Raises:
            RecalibError: where it cannot be read.
        """
        return read_state(self.state)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of all levels under their own names."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flat(value) if isinstance(value, Mapping) else {key: value}
    return settings


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint written by `RunFolder.save`; nothing in it can run.

    Raises:
        RecalibError: where it cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RecalibError(f"{path} is no checkpoint of a run: {reason}") from None
    return state


def read_facts(folder: Path) -> dict[str, Any]:
    """Facts that a run notes of its data and network; none where an older version wrote it."""
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.json, the one in a run's folder, or a configuration written by hand: JSON, YAML or TOML.

    Raises:
        RecalibError: where it is missing or no object of names and values.
    """
    return read_settings(path / CONFIG if path.is_dir() else path)


def weights_of(run_or_file: Path) -> Path:
    """The weights a path stands for: a file itself, those that a run ended with, or those of a network that is named.

    A name has its library before it: ``hf-hub:OWNER/NAME``, ``timm:resnet50.a1_in1k``,
    ``torchvision:resnet50.IMAGENET1K_V2``. Its weights are fetched.

    Raises:
        RecalibError: where there are none.
    """
    if str(run_or_file).startswith(NAMED) and not run_or_file.exists():
        from recalib.integrations.hub import checkpoint_of

        return checkpoint_of(str(run_or_file))
    path = run_or_file / "last.safetensors" if run_or_file.is_dir() else run_or_file
    if not run_or_file.exists():
        raise RecalibError(f"{run_or_file}: there is no such file or run")
    if not path.is_file():
        raise RecalibError(f"{run_or_file} holds no weights: {path.name} is missing")
    return path

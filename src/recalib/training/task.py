"""A task, as the trainer needs it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Part = Literal["test", "aside"]  # of the data: what is evaluated on, and training images that were set aside


class Feed(Protocol):
    """Training batches, each a function of (seed, epoch, step)."""

    def __len__(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Any]:
        """This process's share of each batch of an epoch, from a step on."""
        ...


class Task(ABC):
    """One job's data and network, and what is done with them.

    Attributes:
        score: name of the figure by which epochs are compared, the higher the better.
        network: the network to train, as checkpoints of a run keep it.
        train: training batches.
        aside: true where training images were set aside.
        evaluates_weights: true where loaded weights are a network that can be evaluated before the first step.
    """

    score: ClassVar[str]
    evaluates_weights: ClassVar[bool] = False
    network: nn.Module
    train: Feed
    aside: bool

    def called(self, network: nn.Module, *, compiled: str | None) -> nn.Module:
        """The module that a step calls: the network itself, or one around it; compiled in a mode, if one is given."""
        if compiled:
            network.compile(mode=compiled)
        return network

    def prepare(self, batch: Any) -> Any:
        """A batch as it is trained on, after what is random in a step was seeded."""
        return batch

    @abstractmethod
    def size(self, batch: Any) -> int:
        """Images in a batch of this process."""

    @abstractmethod
    def parts(self, batch: Any, count: int) -> Sequence[Any]:
        """A batch in so many parts, or fewer, for gradients that are added up."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a mean over the batch's images, and figures to be averaged over images, each summed over these."""

    @abstractmethod
    def evaluate(self, network: nn.Module, part: Part, fabric: "Fabric") -> dict[str, float]:
        """Figures of a network on a part of the data, ``images`` among them; the same in all processes."""

    @abstractmethod
    def write(self, network: nn.Module, path: Path, metrics: Mapping[str, Any]) -> None:
        """Write a network with what it takes to use it."""

    @abstractmethod
    def said(self, score: float) -> str:
        """The score as it is said."""

    @abstractmethod
    def line(self, metrics: Mapping[str, Any]) -> str:
        """Line about an epoch."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Facts of the data: dataset, classes (a number), and of each part the images that are used.

        ``train_images``, ``aside_images`` and ``test_images``; ``train_images_there`` and ``test_images_there`` are how
        many there would be without a limit.
        """

    def notes(self) -> list[str]:
        """Lines before the first step of a run that begins."""
        return []

    def details(self) -> list[str]:
        """Lines about the last evaluation on the test images, after `line`, in the first process."""
        return []

    def finished_epoch(self, network: nn.Module, folder: Path, epoch: int) -> None:
        """Finish an epoch, in the first process."""
        return

    @property
    def unreadable(self) -> list[str]:
        """Images that this process could not read so far."""
        return []

    @staticmethod
    def restored_totals(totals: Any, batch: int, step: int) -> dict[str, Tensor]:
        """Sums of the epoch so far, out of a checkpoint of the first version."""
        raise NotImplementedError

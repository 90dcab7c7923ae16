"""Lightning: a callback that puts attention into the network of a `LightningModule` before its optimizer is made.

Lightning is the user's own, as ``lightning`` or ``pytorch_lightning``: this package does not depend on it, and imports
it when `insert_attention` is called.
"""

import importlib
import sys
from functools import cache
from typing import Any

from torch import nn

from recalib.errors import RecalibError
from recalib.surgery import insert_, inserted

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def insert_attention(
    attention: Any, *, network: str | None = None, where: Any = None, identity: bool = True, **options: Any
) -> Any:
    """A callback for ``Trainer(callbacks=[...])``.

    Attention is inserted in the callback's ``setup``, before the optimizer is made and before a checkpoint is loaded:
    it is trained, saved, and found again by ``trainer.fit(..., ckpt_path=...)``. A module that has attention already is
    left as it is, so one callback serves ``fit`` and then ``test``.

    Args:
        attention: as `recalib.insert_` takes it.
        network: the attribute of the `LightningModule` that is the network, such as ``"model"``; by default the whole.
        where: as `recalib.insert_` takes it.
        identity: start every module as the exact identity, so that a pretrained network predicts what it did.
        **options: of the attention.

    Raises:
        RecalibError: where Lightning is not installed.

    Example::

        >>> callback = recalib.integrations.lightning.insert_attention("eca", network="model")
        >>> lightning.Trainer(callbacks=[callback]).fit(module, data)
    """
    return _callback(_package())(attention, network, {"where": where, "identity": identity, **options})


def _package() -> str:
    """The Lightning that is in use, or else one that is installed."""
    loaded = [name for name in PACKAGES if name in sys.modules]
    for name in (*loaded, *PACKAGES):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name
    raise RecalibError("Lightning is not installed: pip install lightning")


@cache
def _callback(package: str) -> type:
    base: Any = importlib.import_module(package).Callback

    class InsertAttention(base):
        """Inserts attention before the optimizer is made; see `insert_attention`."""

        def __init__(self, attention: Any, network: str | None, arguments: dict[str, Any]) -> None:
            self.attention, self.network, self.arguments = attention, network, arguments

        def setup(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
            """Insert, unless the network has attention already."""
            network = self._network(pl_module)
            if not inserted(network).placements:
                insert_(network, self.attention, **self.arguments)

        def _network(self, module: nn.Module) -> nn.Module:
            found = module if self.network is None else getattr(module, self.network, None)
            if not isinstance(found, nn.Module):
                raise RecalibError(f"network={self.network!r}: {type(module).__name__} has no module of that name")
            return found

    return InsertAttention

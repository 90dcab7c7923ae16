"""Device, precision and processes of a run; needs Lightning Fabric, which the rest of this package does not."""

from typing import Any

from lightning_fabric import Fabric

from recalib.errors import RecalibError
from recalib.runs.synchronized import Processes


def launched(accelerator: str, devices: int, precision: Any) -> Fabric:
    """Start the processes of a run, one a device; from here on every process runs.

    Args:
        accelerator: auto, cpu, cuda or mps.
        devices: how many.
        precision: as Fabric names it.

    Raises:
        RecalibError: for a device that this machine does not have.
    """
    strategy = Processes() if devices > 1 else "auto"
    try:
        fabric = Fabric(accelerator=accelerator, strategy=strategy, devices=devices, precision=precision)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RecalibError(f"accelerator {accelerator!r}, devices {devices}: {reason}") from None
    fabric.launch()
    return fabric

"""The device that ``--device`` names."""

import torch

from recalib.errors import RecalibError


def device_of(name: str | None) -> torch.device:
    """The device of a name, or the best this machine has.

    Raises:
        RecalibError: for a device that is not there.
    """
    try:
        return torch.zeros(0, device=name or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RecalibError(f"device {name!r}: {str(error).splitlines()[0]}") from None

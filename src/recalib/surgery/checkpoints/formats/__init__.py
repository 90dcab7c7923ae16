"""One file a source: what its checkpoints look like."""

from collections.abc import Iterable, Mapping
from typing import Any

from recalib.surgery.checkpoints.format import Format
from recalib.surgery.checkpoints.formats import (
    akamaster,
    bangguwu,
    digantamisra,
    evgenykashin,
    gct,
    klomp,
    moskomule,
    plain,
    timm,
)

PLAIN = plain.FORMAT
FORMATS: tuple[Format, ...] = (  # the first that fits
    gct.FORMAT,
    klomp.MULTI_SE,
    klomp.OTHERS,
    evgenykashin.FORMAT,
    moskomule.FORMAT,
    timm.FORMAT,
    digantamisra.ECHO,
    digantamisra.ECA,
    bangguwu.FORMAT,
    akamaster.FORMAT,
    PLAIN,
)


def recognise(keys: Iterable[str], beside: Mapping[str, Any]) -> Format:
    """The format of a checkpoint with these keys, and these entries beside them."""
    names = list(keys)
    return next(form for form in FORMATS if form.fits(names, beside))

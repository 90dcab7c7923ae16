"""Counts as people read them."""

from decimal import ROUND_HALF_UP, Decimal

_SI = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_BINARY = ((2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki"))


def si(count: int) -> str:
    """In powers of 1000 with two decimals: ``25557032 -> "25.56 M"``."""
    unit, prefix = next(((unit, prefix) for unit, prefix in _SI if count >= unit), (1, ""))
    return f"{count / unit:.2f} {prefix}" if prefix else str(count)


def binary(count: int) -> str:
    """In powers of 1024, as ECA-Net's README prints its parameters: ``25557112 -> "24.37 Mi"``.

    Rounded to three decimals first and then, halves up, to two, as that column was: 57.4046 is printed as 57.41.
    """
    unit, prefix = next(((unit, prefix) for unit, prefix in _BINARY if count >= unit), (1, ""))
    thousandths = (Decimal(count) / unit).quantize(Decimal("0.001"))
    return f"{thousandths.quantize(Decimal('0.01'), ROUND_HALF_UP)} {prefix}" if prefix else str(count)

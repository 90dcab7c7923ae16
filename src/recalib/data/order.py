"""Order and randomness as functions of counters: a run that resumes needs to know only where it was."""

import numpy as np
import torch

Share = tuple[int, int]  # this process, and how many there are


def seed_for(*counters: int) -> int:
    """A 63-bit seed from non-negative counters such as (seed, epoch, step); distinct counters, unrelated seeds."""
    high, low = np.random.SeedSequence(counters).generate_state(2, np.uint32)
    return (int(high) << 31) ^ int(low)


def generator_for(*counters: int) -> torch.Generator:
    """A fresh CPU generator seeded by `seed_for`, so that draws are the same whatever the device."""
    return torch.Generator().manual_seed(seed_for(*counters))


def order_of(count: int, repeat: int, draw: torch.Generator) -> torch.Tensor:
    """Indices of so many passes over ``count`` images, each in an order of its own; int64, shape (count * repeat,)."""
    return torch.cat([torch.randperm(count, generator=draw) for _ in range(repeat)])


def held_out(count: int, share: float) -> np.ndarray:
    """Booleans: true for the images of ``count`` that are set aside; a share, spread evenly, the same every time."""
    return np.diff(np.floor(np.arange(count + 1) * share)) > 0


def steps_in(count: int, batch: int, drop_last: bool, share: Share) -> int:
    """Batches in an epoch: the last one counts where it is wanted and every process gets an image of it."""
    whole, rest = divmod(count, batch)
    return whole + (rest >= share[1] and not drop_last)


def share_of(step: int, batch: int, count: int, share: Share) -> slice:
    """This process's part of a batch; what does not divide by the processes is left out."""
    rank, world = share
    first, end = step * batch, min((step + 1) * batch, count)
    return slice(first + rank, first + (end - first) // world * world, world)

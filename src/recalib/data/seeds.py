"""Randomness as a function of counters: a run that resumes needs to know only where it was."""

import numpy as np
import torch


def seed_for(*counters: int) -> int:
    """A 63-bit seed from non-negative counters such as (seed, epoch, step); distinct counters, unrelated seeds."""
    high, low = np.random.SeedSequence(counters).generate_state(2, np.uint32)
    return (int(high) << 31) ^ int(low)


def generator_for(*counters: int) -> torch.Generator:
    """A fresh CPU generator seeded by `seed_for`, so that draws are the same whatever the device."""
    return torch.Generator().manual_seed(seed_for(*counters))

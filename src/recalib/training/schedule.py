"""Learning rate as a function of the step, so that a resumed run needs no scheduler's state."""

import math

from recalib.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step.

    Args:
        recipe: its peak, schedule, milestones, gamma, warm-up and epochs.
        step: counts from 0 over the whole training.
        steps_per_epoch: optimizer steps in an epoch.
    """
    warm = recipe.warmup_epochs * steps_per_epoch
    if step < warm:
        return recipe.peak * (step + 1) / (math.floor(warm) + 1)
    epoch = step // steps_per_epoch
    progress = (step - warm) / max(1, recipe.epochs * steps_per_epoch - warm)
    factors = {
        "step": recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones),
        "exponential": recipe.gamma**epoch,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "linear": 1 - progress,
    }
    climbed = recipe.warmup_from + (1 - recipe.warmup_from) * step / recipe.warmup if step < recipe.warmup else 1.0
    return recipe.peak * factors[recipe.schedule] * climbed

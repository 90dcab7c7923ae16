import pytest
import torch
from torch import nn


@pytest.fixture
def lively():
    """Makes every weight of a network count: norms and layer scales that start at 0 or 1 would hide mistakes."""

    def randomize(model):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for module in model.modules():
                if getattr(module, "running_var", None) is not None:
                    module.running_mean.normal_(0, 0.1, generator=generator)
                    module.running_var.uniform_(0.5, 1.5, generator=generator)
                for name, p in module.named_parameters(recurse=False):
                    if p.ndim == 1 or name in ("layer_scale", "gamma"):
                        p.uniform_(0.5, 1.5, generator=generator)
                    elif isinstance(module, (nn.Linear, nn.Conv1d)):
                        p.normal_(0, 1, generator=generator)
        return model

    return randomize

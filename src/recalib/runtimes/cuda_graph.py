"""PyTorch's operators recorded once as a CUDA graph and replayed: what is left when launching costs nothing."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recalib.runtimes.base import Runtime, Session, Settings
from recalib.runtimes.eager import EagerSession


def record(run: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """A graph of what `run` queues, which must not wait for the device; run it a few times before.

    As PyTorch asks, the warm-up is on a stream of its own: capture must not find anything that happens only once.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


class CudaGraphSession(EagerSession):
    """As in eager mode, replayed."""

    def __init__(self, model: nn.Module, example: Tensor, settings: Settings) -> None:
        super().__init__(model, example, settings)
        self._graph = record(super().run)

    def run(self) -> None:
        """Queue one forward pass."""
        self._graph.replay()


class CudaGraph(Runtime):
    """PyTorch's eager mode as a CUDA graph."""

    name = "cuda_graph"
    tried = False

    @property
    def target(self) -> str:
        """The graph replays what is deployed for eager mode."""
        return "eager"

    def missing(self) -> str | None:
        """True if there is a GPU."""
        return None if torch.cuda.is_available() else "cuda_graph needs an NVIDIA GPU"

    def load(self, network: nn.Module, example: Tensor, settings: Settings) -> Session:
        """A session that replays its first run."""
        return CudaGraphSession(network, example, settings)

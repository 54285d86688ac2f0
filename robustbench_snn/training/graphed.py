"""Training steps as CUDA graphs: a small network otherwise waits for its kernels' launches."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, Tensor]]
EAGER_STEPS = 3  # allocations, compilation and optimiser state have to exist before a capture


@dataclass
class Captured:
    """One graph with the tensors it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outcome: tuple[Tensor, Tensor]


class GraphedStep:
    """``step(*tensors)``, recorded once per kind of batch and replayed from then on.

    The first three batches of a kind run eagerly, as steps like any other. The tensors returned
    are overwritten by the next call.

    Args:
        step: one optimiser step without any read-back to the host.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self.eager: dict[Hashable, int] = {}
        self.captured: dict[Hashable, Captured] = {}
        self.stream = torch.cuda.Stream()

    def __call__(self, settings: Hashable, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            settings: every number besides ``inputs`` that the step reads; it is recorded.
            inputs: what the step is called with.
        """
        kind = (settings, *(tensor.shape for tensor in inputs))
        if kind not in self.captured:
            done = self.eager.get(kind, 0)
            if done < EAGER_STEPS:
                self.eager[kind] = done + 1
                return self.aside(inputs)
            self.captured[kind] = self.capture(inputs)
        found = self.captured[kind]
        for own, given in zip(found.inputs, inputs, strict=True):
            own.copy_(given)
        found.graph.replay()
        return found.outcome

    def aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """An eager step on a stream of its own, as captures require of what precedes them."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outcome = self.step(*inputs)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outcome

    def capture(self, inputs: tuple[Tensor, ...]) -> Captured:
        """Record the step; recording executes nothing."""
        graph = torch.cuda.CUDAGraph()
        own = tuple(tensor.clone() for tensor in inputs)
        with torch.cuda.graph(graph):
            outcome = self.step(*own)
        return Captured(graph, own, outcome)

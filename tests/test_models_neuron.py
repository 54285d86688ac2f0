"""The fused neuron equals spikingjelly's."""

from __future__ import annotations

import shutil

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor

from robustbench_snn.errors import UsageError
from robustbench_snn.models.neuron import LIF, use


def reference(threshold: float, function: object = None) -> neuron.LIFNode:
    chosen = function or surrogate.Sigmoid(alpha=4.0)
    return neuron.LIFNode(2.0, True, threshold, 0.0, chosen, detach_reset=True, step_mode="m")


def run(node: neuron.LIFNode, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    functional.reset_net(node)
    x = x.clone().requires_grad_()
    spikes = node(x)
    return spikes, torch.autograd.grad((spikes * weight).sum(), x)[0]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("threshold", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_spikingjelly(steps: int, threshold: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(steps)
    x = 2 * torch.randn(steps, 3, 4, 5, generator=generator).to(dtype)
    x[:, 0] = x[:, 0].round()  # integers make exact ties with the threshold
    weight = torch.randn(x.shape, generator=generator).to(dtype)
    ours, theirs = run(LIF(threshold), x, weight), run(reference(threshold), x, weight)
    assert torch.equal(ours[0], theirs[0])
    assert torch.allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-7)


def test_values_and_gradient_by_hand() -> None:
    node = LIF()
    x = torch.tensor([1.0, 2.0, 4.0]).view(3, 1).requires_grad_()
    spikes = node(x)
    # h = 0.5, then 0.5 + (2 - 0.5) / 2 = 1.25 fires and resets, then 4 / 2 = 2 fires.
    assert spikes.flatten().tolist() == [0.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(spikes.sum(), x)

    def slope(u: float) -> float:
        s = 1 / (1 + torch.exp(torch.tensor(-4.0 * u)))
        return float(4 * s * (1 - s))

    last, middle = slope(1.0), slope(0.25)
    first = slope(-0.5) + middle / 2
    expected = torch.tensor([first, middle, last]) / 2
    assert torch.allclose(gradient.flatten(), expected)


def test_another_surrogate_is_used_for_the_gradient_only() -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.ones_like(x)
    node = LIF()
    plain, gradient = run(node, x, weight)
    node.surrogate_function = surrogate.ATan(alpha=2.0)
    swapped, other = run(node, x, weight)
    expected = run(reference(1.0, surrogate.ATan(alpha=2.0)), x, weight)[1]
    assert torch.equal(plain, swapped)
    assert torch.allclose(other, expected)
    assert not torch.allclose(other, gradient)


def test_calls_start_from_rest_unless_told_to_keep_state() -> None:
    x = torch.full((1, 1, 1), 1.5)
    node = LIF()
    assert [float(node(x)) for _ in range(2)] == [0.0, 0.0]
    node.keep_state = True
    assert [float(node(x)) for _ in range(2)] == [0.0, 1.0]
    functional.reset_net(node)
    assert float(node(x)) == 0.0


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_compiled_equals_eager(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    x = 2 * torch.randn(steps, 3, 4, 5, generator=generator)
    weight = torch.randn(x.shape, generator=generator)
    eager = run(LIF(), x, weight)
    use("compiled")
    try:
        compiled = run(LIF(), x, weight)
        half = LIF()(x.bfloat16())
    finally:
        use("eager")
    assert torch.equal(eager[0], compiled[0])
    assert torch.allclose(eager[1], compiled[1], rtol=1e-5, atol=1e-7)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, LIF()(x.bfloat16()))


def test_a_compiler_that_fails_is_one_line_and_the_eager_layer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise OSError("no headers")

    from robustbench_snn.models import compiled

    stuck = torch.compile(compiled.charge_and_fire, backend=broken)
    monkeypatch.setattr(compiled, "_forward", stuck)
    x = 2 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.ones_like(x)
    eager = run(LIF(), x, weight)
    use("compiled")
    try:
        fallen = [run(LIF(), x, weight) for _ in range(2)]
    finally:
        use("eager")
    assert all(torch.equal(a, b) for pair in fallen for a, b in zip(pair, eager, strict=True))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: eager neuron layers are used, more slowly: ")
    assert "no headers" in line


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown neuron backend 'fast'"):
        use("fast")

"""The compiled layers give the bits of the eager ones, whole networks included."""

import copy

import pytest
import torch
from torch import nn

from robustbench_snn.adapter import load_model
from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.data import load_dataset
from robustbench_snn.models import native, neuron
from robustbench_snn.models.native_layers import frozen
from robustbench_snn.models.neuron import LIF
from robustbench_snn.models.spiking import conv3, fire, over_time, pool

needs_compiler = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or a processor without AVX2"
)
SHIPPED = ["qkformer-tiny.digit-scenes", "sdt-tiny.digit-scenes", "spiliformer-tiny.digit-scenes"]


@pytest.fixture
def backend():
    """Switches backends, and back to the eager one at the end."""
    yield neuron.use
    neuron.use("eager")


@pytest.fixture(scope="module")
def batch():
    found = load_dataset("digit-scenes").batch(range(6))
    return torch.from_numpy(found.x), torch.from_numpy(found.y)


@needs_compiler
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_and_gradients_of_networks_are_equal(backend, batch, name, threads):
    model, before = load_model(name), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = []
        for kind in ("eager", "native"):
            backend(kind)
            results.append((model(batch[0]), cross_entropy_gradient(model, *batch)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def drawn_norm(channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    bn = nn.BatchNorm2d(channels).eval().requires_grad_(False)
    for part in (bn.weight, bn.bias, bn.running_mean):
        part.copy_(torch.randn(channels, generator=generator))
    bn.running_var.copy_(torch.rand(channels, generator=generator) + 0.2)
    return bn


def both(backend, compute, x):
    found = []
    for kind in ("eager", "native"):
        backend(kind)
        point = x.clone().requires_grad_()
        y = compute(point)
        weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
        found.append((y.detach(), torch.autograd.grad(y, point, weight)[0]))
    return found


@needs_compiler
@pytest.mark.parametrize("side", [7, 14, 16])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_convolution_norm_and_neuron_are_equal(backend, side, steps):
    torch.manual_seed(0)
    conv, bn, node = conv3(3, 8).requires_grad_(False).eval(), drawn_norm(8), LIF(0.5)
    x = 3 * torch.randn(steps, 8, 3, side, side)
    eager, compiled = both(backend, lambda x: fire(node, x, conv, bn), x)
    assert 0.05 < eager[0].mean() < 0.95
    assert torch.equal(eager[0], compiled[0])
    assert torch.equal(eager[1], compiled[1])


@needs_compiler
def test_pooling_is_equal_also_where_values_tie(backend):
    torch.manual_seed(0)
    conv, bn = conv3(3, 8).requires_grad_(False).eval(), drawn_norm(8)
    for x in (torch.randn(2, 4, 3, 10, 12), torch.zeros(2, 4, 3, 10, 12)):
        for layers in ((conv, bn, pool()), (pool(),)):
            eager, compiled = both(backend, lambda x, layers=layers: over_time(x, *layers), x)
            assert torch.equal(eager[0], compiled[0])
            assert torch.equal(eager[1], compiled[1])


@needs_compiler
def test_a_static_image_stays_one_step_in_memory(backend):
    torch.manual_seed(0)
    conv, bn, node = conv3(3, 8).requires_grad_(False).eval(), drawn_norm(8), LIF()
    x = 3 * torch.randn(4, 3, 8, 8)
    eager, compiled = both(
        backend, lambda x: fire(node, x.unsqueeze(0).expand(3, *x.shape), conv, bn), x
    )
    assert torch.equal(eager[0], compiled[0])
    assert torch.equal(eager[1], compiled[1])


@needs_compiler
def test_listeners_hear_what_they_hear_without_it(backend):
    torch.manual_seed(0)
    conv, bn = conv3(3, 8).requires_grad_(False).eval(), drawn_norm(8)
    x, heard = torch.randn(2, 4, 3, 8, 8), []
    for listened in (LIF(), copy.deepcopy(bn)):
        node = listened if isinstance(listened, LIF) else LIF()
        norm = bn if isinstance(listened, LIF) else listened
        listened.register_forward_hook(lambda module, given, y: heard.append((given[0], y)))
        for kind in ("eager", "native"):
            backend(kind)
            fire(node, x, conv, norm)
    assert len(heard) == 4
    for eager, compiled in (heard[:2], heard[2:]):
        assert torch.equal(eager[0].flatten(), compiled[0].flatten())
        assert torch.equal(eager[1].flatten(), compiled[1].flatten())


def test_a_changed_norm_is_asked_again():
    bn = drawn_norm(8)
    first = frozen(bn)
    assert frozen(bn) is first
    bn.running_mean.add_(1)
    assert not torch.equal(frozen(bn)[1], first[1])
    assert frozen(bn.train()) is None
    assert frozen(nn.BatchNorm2d(8).eval()) is None  # its weights want gradients

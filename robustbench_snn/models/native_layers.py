"""The compiled neuron layers as differentiable functions: alone, or with the batch norm before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

TAU, MOST_STEPS = 2.0, 32
# The eager layer computes the last elements beyond this multiple with another exp.
_MULTIPLE = 64
_LARGE = 2.0**100
_ONE_NORM = (None, None, None, None, 1, 1)
Norm = tuple[Tensor, Tensor, Tensor, Tensor]


def fits(x: Tensor, tau: float) -> bool:
    """Whether the compiled layer takes input currents ``x`` ``[T, B, ...]``."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and tau == TAU
        and x.shape[0] <= MOST_STEPS
        and x[0].numel() % _MULTIPLE == 0
        and (x[0].is_contiguous() or _channels_last(x))
        and x.stride(0) in (0, x[0].numel())
    )


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 5 and x[0].is_contiguous(memory_format=torch.channels_last)


def like(x: Tensor) -> Tensor:
    """Memory for a result shaped like ``x``, its axes in the same order, no step shared."""
    return x.new_empty(x.shape) if x[0].is_contiguous() else torch.empty_like(x)


def arranged(grad: Tensor, out: Tensor) -> Tensor:
    """``grad`` with the memory order of ``out``."""
    return grad if grad.stride() == out.stride() else torch.empty_like(out).copy_(grad)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def spread(call: Callable[[int, int], object], count: int, unit: int) -> None:
    """``call(from, to)`` over ``count`` elements in pieces of whole ``unit``, in torch's threads.

    The library lets go of Python's lock while it computes.
    """
    threads = torch.get_num_threads()
    if threads == 1 or count < 1 << 16:
        call(0, count)
        return
    edges = [count // unit * i // threads * unit for i in range(threads)] + [count]
    list(_pool(threads).map(call, edges[:-1], edges[1:]))


def pointers(tensors: Iterable[Tensor]) -> list[int]:
    """Where the data of ``tensors`` stand."""
    return [tensor.data_ptr() for tensor in tensors]


class NativeLIF(Function):
    """Same contract as ``FusedLIF``; keeps the input and charges the membrane again.

    With ``norm`` the input is what a batch norm in eval mode takes, ``[T, B, C, ...]``, and the
    result is that of the neuron after it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, threshold: float, alpha: float, native: CDLL, norm: Norm | None
    ) -> Tensor:
        spikes, count = like(x), x[0].numel()
        plane = x[0, 0, 0].numel() if norm else 1
        given = (*pointers(norm[:2]), x.shape[2], plane) if norm else (None, None, 1, 1)
        places = (x.data_ptr(), x.stride(0), spikes.data_ptr(), x.shape[0], count)
        narrow = int(x.dtype == torch.bfloat16)
        spread(
            lambda a, b: native.lif_forward(*places, threshold, narrow, *given, a, b),
            count,
            plane if norm else _MULTIPLE,
        )
        ctx.save_for_backward(x)
        ctx.constants = threshold, alpha, native, norm, plane
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        threshold, alpha, native, norm, plane = ctx.constants
        out, count = like(x), x[0].numel()
        grad = arranged(grads[0], out)
        given = (*pointers(norm), x.shape[2], plane) if norm else _ONE_NORM
        places = (x.data_ptr(), x.stride(0), grad.data_ptr(), out.data_ptr(), x.shape[0], count)
        narrow = int(x.dtype == torch.bfloat16)
        spread(
            lambda a, b: native.lif_backward(*places, threshold, alpha, narrow, *given, a, b),
            count,
            plane if norm else _MULTIPLE,
        )
        return out, None, None, None, None


class NativePool(Function):
    """Batch norm in eval mode, then max-pooling 3x3, stride 2, padding 1: ``[N, C, H, W]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, native: CDLL, norm: Norm) -> Tensor:
        n, c, h, w = x.shape
        out = x.new_empty(n, c, h // 2, w // 2)
        place = torch.empty(out.shape, dtype=torch.uint8)
        narrow = int(x.dtype == torch.bfloat16)
        places = (x.data_ptr(), out.data_ptr(), place.data_ptr())
        given = (*places, h, w, narrow, *pointers(norm[:2]), c)
        spread(lambda a, b: native.pool_forward(*given, a // h // w, b // h // w), x.numel(), h * w)
        ctx.save_for_backward(place)
        ctx.constants = native, norm, x.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (place,) = ctx.saved_tensors
        native, norm, (n, c, h, w) = ctx.constants
        grad = grads[0].contiguous()
        out = grad.new_empty(n, c, h, w)
        narrow = int(grad.dtype == torch.bfloat16)
        places = (grad.data_ptr(), place.data_ptr(), out.data_ptr())
        given = (*places, h, w, narrow, *pointers(norm[2:]), c)
        spread(
            lambda a, b: native.pool_backward(*given, a // h // w, b // h // w), out.numel(), h * w
        )
        return out, None, None


_norms: WeakKeyDictionary[nn.Module, tuple[object, Norm]] = WeakKeyDictionary()


def frozen(bn: nn.Module) -> Norm | None:
    """(scale, shift, inverse deviation, weight) with which ``bn`` computes; None where it cannot.

    Found by asking it, so that they are rounded as torch rounds them: it answers shift to 0, and
    scale times a number that swamps the shift.
    """
    if type(bn) not in (nn.BatchNorm1d, nn.BatchNorm2d) or bn.training:
        return None
    assert isinstance(bn, nn.modules.batchnorm._BatchNorm)
    parts = (bn.weight, bn.bias, bn.running_mean, bn.running_var)
    if any(p is None or p.dtype != torch.float32 or p.requires_grad for p in parts):
        return None
    state = (bn.eps, *[(p.data_ptr(), p._version) for p in parts if p is not None])
    if bn in _norms and _norms[bn][0] == state:
        return _norms[bn][1]
    weight, bias, mean, var = (part for part in parts if part is not None)
    ask = torch.zeros(2, len(mean), 64)
    ask[1] = _LARGE
    with torch.enable_grad():
        ask.requires_grad_()
        answer = nn.functional.batch_norm(ask, mean, var, weight, bias, eps=bn.eps)
        plain = nn.functional.batch_norm(ask, mean, var, eps=bn.eps)
        (slope,) = torch.autograd.grad(plain, ask, torch.ones_like(plain))
    shift, scale = answer.detach()[:, :, 0]
    norm = (scale / _LARGE, shift.contiguous(), slope[0, :, 0].contiguous(), weight.detach())
    if not all(part.isfinite().all() for part in norm):
        return None
    _norms[bn] = (state, norm)
    return norm


@functools.cache
def no_norm(channels: int) -> Norm:
    """What ``frozen`` would say of a batch norm that changes nothing."""
    one = torch.ones(channels)
    return one, torch.zeros(channels), one, one


def agrees(native: CDLL) -> bool:
    """Whether the compiled layers equal the eager ones bit for bit on random and tied input."""
    from robustbench_snn.models.neuron import FusedLIF

    generator = torch.Generator().manual_seed(0)
    bn = nn.BatchNorm2d(8).eval().requires_grad_(False)
    drawn = torch.randn(4, 8, generator=generator)
    names = ("weight", "bias", "running_mean", "running_var")
    bn.load_state_dict(dict(zip(names, (*drawn[:3], drawn[3].abs() + 0.3), strict=True)), False)
    norm = frozen(bn)
    if norm is None:
        return False

    def normed(x: Tensor) -> Tensor:
        return bn(x.flatten(0, 1)).view(x.shape)

    def pooled(x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(bn(x.flatten(0, 1)), 3, 2, 1)

    pairs: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
        (
            lambda x: FusedLIF.apply(x, TAU, 1.0, 4.0),
            lambda x: NativeLIF.apply(x, 1.0, 4.0, native, None),
        ),
        (
            lambda x: FusedLIF.apply(normed(x), TAU, 0.5, 4.0),
            lambda x: NativeLIF.apply(x, 0.5, 4.0, native, norm),
        ),
        (pooled, lambda x: NativePool.apply(x.flatten(0, 1), native, norm)),
    ]
    for steps, side in ((1, 14), (4, 16)):
        x = 2 * torch.randn(steps, 16, 8, side, side, generator=generator)
        x[:, ::3] = x[:, ::3].round()
        for pair in pairs:
            results = []
            for layer in pair:
                point = x.clone().requires_grad_()
                with torch.enable_grad():
                    y = layer(point)
                    weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
                    (gradient,) = torch.autograd.grad(y, point, weight)
                results.append((y.detach(), gradient))
            if not all(torch.equal(a, b) for a, b in zip(*results, strict=True)):
                return False
    return True

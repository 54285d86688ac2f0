"""Read one attention module's spikes out of a trace, whatever its neurons are called.

A module takes part when it has a ``kind`` (see ``NEURONS``) and neurons under the attribute names
given there. Other names are declared on the module::

    neurons = {"query": "lif_q", "key": "lif_k", "value": "lif_v", "output": "lif_out"}

Linear attention also needs ``heads`` (1 if absent): channel ``head * C / heads + i`` belongs to
head ``head``. Tokens are row-major; outputs are ``[T, B, C, N]`` or ``[T, B, C, H, W]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter, Trace
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

_MASKED = {"mask": "attn_lif", "key": "k_lif"}
_LINEAR = {"query": "q_lif", "key": "k_lif", "value": "v_lif", "output": "attn_lif"}
NEURONS: dict[str, dict[str, str]] = {
    "token_mask": _MASKED,
    "ff_lidiff": _MASKED,
    "linear": _LINEAR,
    "fb_lidiff": _LINEAR,
    "channel_mask": {"query": "q_lif", "mask": "talking_heads_lif"},
}


@dataclass(frozen=True)
class Unit:
    """One pass of one attention module.

    Attributes:
        name: of the module in its network.
        module: the module itself.
        number: of the pass, from 1.
        passes: how often the module ran.
        spikes: role to outputs [B, T, ...] of the neuron in that role.
        currents: the same for its input currents.
        grid: (rows, columns) of the token grid.
    """

    name: str
    module: nn.Module
    number: int
    passes: int
    spikes: Mapping[str, Tensor]
    currents: Mapping[str, Tensor]
    grid: tuple[int, int]

    @property
    def kind(self) -> str:
        """Kind of attention, a key of ``NEURONS``."""
        return str(self.module.kind)

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return int(getattr(self.module, "heads", 1))


def choose_block(model: ModelAdapter, block: str = "last") -> str:
    """The attention module that ``block`` names.

    Args:
        model: whose ``attention_units`` are meant.
        block: ``last``, a place in forward order from 1 (negative from the end), or the name of a
            module or of the block around it.

    Raises:
        UsageError: the model has no attention modules, or none or several fit.
    """
    names = list(model.attention_units())
    if not names:
        raise UsageError(
            f"model '{model.card.name}' names no attention module, so it has no attention maps: "
            "give its attention modules a 'kind', or choose an attribution such as occlusion."
        )
    if block == "last":
        return names[-1]
    if block.lstrip("-").isdigit() and 1 <= abs(int(block)) <= len(names):
        place = int(block)
        return names[place - 1 if place > 0 else place]
    found = [name for name in names if name == block or name.startswith(f"{block}.")]
    if len(found) == 1:
        return found[0]
    hint = did_you_mean(block, names) if not found else f"several fit: {', '.join(found)}."
    raise UsageError(f"model '{model.card.name}' has no single block '{block}': {hint}")


def choose_pass(model: ModelAdapter, name: str, passes: int, number: int | None) -> int:
    """The pass that is meant, from 1: the one that predicts unless ``number`` asks for another.

    Raises:
        UsageError: the block does not run that often.
    """
    if number is None:
        return 1 if getattr(model.net, "logits", "") == "first" else passes
    if not 1 <= number <= passes:
        times = "once" if passes == 1 else f"{passes} times"
        raise UsageError(
            f"--pass {number} was asked for, but block '{name}' of model '{model.card.name}' runs "
            f"{times}: leave --pass out."
        )
    return number


def wanted_units(model: ModelAdapter, block: str) -> list[str]:
    """Names of the neurons that maps of ``block`` read.

    Raises:
        UsageError: no such block, or an unknown kind of attention.
    """
    name = choose_block(model, block)
    roles = neuron_names(name, model.attention_units()[name])
    return [f"{name}.{attribute}" for attribute in roles.values()]


def read_unit(
    model: ModelAdapter, trace: Trace, size: tuple[int, int], block: str, number: int | None
) -> Unit:
    """One pass of the attention module ``block`` names.

    Args:
        model: the model traced.
        trace: what it did.
        size: (height, width) of its input in pixels.
        block, number: see ``choose_block`` and ``choose_pass``.

    Raises:
        UsageError: no such block or pass, an unknown kind, or a neuron that is not there.
    """
    name = choose_block(model, block)
    module = model.attention_units()[name]
    roles = neuron_names(name, module)
    recorded = {role: f"{name}.{attribute}" for role, attribute in roles.items()}
    present = {role: path for role, path in recorded.items() if path in trace.spikes}
    if not present:
        raise UsageError(
            f"attention module '{name}' emitted no spikes under {', '.join(recorded.values())}: "
            "declare its 'neurons' (role to attribute name)."
        )
    passes = min(len(trace.spikes[path]) for path in present.values())
    chosen = choose_pass(model, name, passes, number)
    spikes = {role: trace.spikes[path][chosen - 1] for role, path in present.items()}
    currents = {role: trace.currents[path][chosen - 1] for role, path in present.items()}
    grid = token_grid(next(spikes[r] for r in ("key", "query") if r in spikes), size)
    return Unit(name, module, chosen, passes, spikes, currents, grid)


def neuron_names(name: str, module: nn.Module) -> Mapping[str, str]:
    """Role to attribute name; raises UsageError on a kind that is not known."""
    kind = str(getattr(module, "kind", ""))
    if kind not in NEURONS:
        raise UsageError(
            f"attention module '{name}' has the unknown kind '{kind}': "
            f"{did_you_mean(kind, list(NEURONS))}"
        )
    declared = getattr(module, "neurons", None)
    return {**NEURONS[kind], **(declared or {})}


def token_grid(spikes: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the tokens of ``spikes`` [B, T, C, N] or [B, T, C, H, W].

    N tokens are laid out in the proportions of the input, ``size`` (height, width) in pixels.

    Raises:
        UsageError: no whole grid has N cells in those proportions.
    """
    if spikes.dim() == 5:
        return spikes.shape[3], spikes.shape[4]
    tokens = spikes.shape[-1]
    rows = round((tokens * size[0] / size[1]) ** 0.5)
    if rows < 1 or tokens % rows:
        raise UsageError(
            f"{tokens} tokens do not form a grid in the proportions of a {size[0]}x{size[1]} "
            "input, so no map can be drawn from them."
        )
    return rows, tokens // rows


def by_token(spikes: Tensor) -> Tensor:
    """``[B, T, C, N]`` from ``[B, T, C, N]`` or ``[B, T, C, H, W]``."""
    return spikes.flatten(3)


def by_head(spikes: Tensor, heads: int) -> Tensor:
    """``[B, T, heads, C / heads, N]`` from ``[B, T, C, N]`` or ``[B, T, C, H, W]``."""
    flat = by_token(spikes)
    b, t, c, n = flat.shape
    return flat.reshape(b, t, heads, c // heads, n)

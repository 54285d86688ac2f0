"""SpiLiFormer's definition: its inhibition, its feedback and every switch."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor

from robustbench_snn.adapter import load_model
from robustbench_snn.errors import UsageError
from robustbench_snn.models.adapters import released_key
from robustbench_snn.models.neuron import LIF
from robustbench_snn.models.qkformer import SpikingSelfAttention
from robustbench_snn.models.spiliformer import FFLiDiffAttention, SpiLiFormer


def network(**switches: object) -> SpiLiFormer:
    torch.manual_seed(0)
    model = SpiLiFormer("cifar", 64, heads=4, num_classes=5, **switches)  # type: ignore[arg-type]
    # Batch statistics of a fresh network, so that every layer of it fires in eval mode.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(images())
    functional.reset_net(model)
    return model.eval()


def images(steps: int = 4) -> Tensor:
    x = 2 * torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x.expand(steps, *x.shape)


def test_mask_fires_on_excitation_minus_inhibition() -> None:
    attention = FFLiDiffAttention(8, heads=2)
    q = torch.zeros(1, 1, 8, 3)
    q[0, 0, 0:2, 0] = 4.0  # head 0: two excitatory spikes at token 0
    q[0, 0, 0:2, 1] = 4.0
    q[0, 0, 4:6, 1] = 4.0  # head 0: two inhibitory spikes at token 1 cancel them
    q[0, 0, 4:6, 2] = 4.0  # inhibition alone at token 2
    drive = attention.token_drive(q)
    assert drive[0, 0, :, 0].tolist() == [[2.0, 0.0, -2.0], [0.0, 0.0, 0.0]]
    assert attention.attn_lif(drive)[0, 0, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_passes_and_choice_of_logits() -> None:
    first, second = network().passes(images())
    assert (first - second).abs().max() > 0
    assert torch.equal(network()(images()), second)
    for choice, expected in (("first", first), ("mean", (first + second) / 2)):
        model = network(logits=choice)
        model.load_state_dict(network().state_dict())
        assert torch.equal(model(images()), expected)


def test_equal_prompts_feed_nothing_back() -> None:
    model = network()
    model.prompt2.data.copy_(model.prompt1.data)
    output = torch.randint(0, 4, (2, 3, 64, 8, 8)).float()
    assert model.feedback(output).abs().max() == 0


def test_token_and_channel_masks_in_closed_form() -> None:
    tokens = torch.tensor([[[[1.0, 2.0], [0.0, 3.0]]]])  # [T=1, B=1, D=2, N=2]
    prompt = torch.tensor([0.1, 0.2])
    token = network(fb_cosine=False).mask(tokens, prompt)
    assert torch.allclose(token, torch.tensor([[[[0.1, 0.8]]]]))
    channel = network(reading="paper", fb_prompt="channel").mask(tokens, prompt)
    assert torch.allclose(channel, torch.tensor([[[[0.1, 0.2], [0.0, 0.6]]]]))
    cosine = network().mask(tokens, prompt)
    expected = torch.tensor([0.1 / 0.05**0.5, 0.8 / (13 * 0.05) ** 0.5])
    assert torch.allclose(cosine[0, 0, 0], expected)


@pytest.mark.parametrize(
    "switches",
    [
        {"fb_source": "attn"},
        {"fb_prompt": "channel", "fb_cosine": False},
        {"fb_cosine": False},
        {"fb_gain": 2.0},
        {"fb_decoder": "bn-linear"},
        {"fb_reorder": False},
        {"fb_chain": "bottom-up"},
        {"fb_chain": "none"},
        {"carry_state": True},
        {"attn_neuron": False},
        {"reading": "cifar100"},
        {"reading": "imagenet"},
        {"reading": "paper"},
    ],
    ids=lambda s: "-".join(map(str, next(iter(s.items())))),
)
def test_every_switch_changes_the_second_pass_alone(switches: dict[str, object]) -> None:
    # Of one network with one switch turned, so that nothing else can differ.
    model, plain = network(**switches), network()
    model.load_state_dict(plain.state_dict())
    first, second = model.passes(images())
    plain_first, plain_second = plain.passes(images())
    if "attn_neuron" not in switches:
        assert torch.equal(first, plain_first)
    assert not torch.equal(second, plain_second)


def test_ablations_drop_what_they_name() -> None:
    without_fb = network(fb=False)
    assert len(without_fb.passes(images())) == 1
    assert not any("fb_" in name or "prompt" in name for name in without_fb.state_dict())
    kinds = {getattr(m, "kind", None) for m in network(ff=False).modules()}
    assert "ff_lidiff" not in kinds
    assert "token_mask" in kinds


def test_gradient_reaches_prompts_feedback_and_input() -> None:
    model = network()
    x = images().clone().requires_grad_()
    model(x)[:, 0].sum().backward()
    for value in (model.prompt1, model.prompt2, model.last_stage[0].attention.fb_linear.weight, x):
        assert value.grad is not None
        assert value.grad.abs().sum() > 0


def test_unknown_switch_and_indivisible_width_are_refused() -> None:
    with pytest.raises(UsageError, match="fb_source='token' is unknown"):
        network(fb_source="token")
    with pytest.raises(UsageError, match="fb_decoder='released' is unknown: use one of linear-bn"):
        network(fb_decoder="released")
    with pytest.raises(UsageError, match="reading='mnist' is unknown: use one of cifar10"):
        network(reading="mnist")
    with pytest.raises(UsageError, match="fb_reorder=1 is unknown: use one of True, False"):
        network(fb_reorder=1)
    for gain in (0, -1.0, float("inf"), float("nan"), True, "2"):
        with pytest.raises(UsageError, match="is no factor"):
            network(fb_gain=gain)
    with pytest.raises(UsageError, match="do not divide"):
        SpiLiFormer("cifar", 48, heads=8)


def feedback_by_hand(model: SpiLiFormer, signal: Tensor, mixed: bool) -> list[Tensor]:
    """The chain of decoders written token-first, ``[T B, N, D]``, from the last block down."""
    t, b, d, n = signal.shape
    x, found = signal.flatten(0, 1).transpose(1, 2), []
    for block in reversed(list(model.last_stage)):
        attention = block.attention
        current = attention.fb_bn((x @ attention.fb_linear.weight.T).transpose(1, 2))
        charged = torch.zeros(b, n, d)
        steps = []
        for step in current.view(t, b, d, n).transpose(2, 3):
            charged = charged + (step - charged) / 2
            steps.append((charged >= 1).float())
            charged = charged * (1 - steps[-1])
        spikes = torch.stack(steps).flatten(0, 1).contiguous()  # [T B, N, D]
        # The released code reads this memory as [T B, D, N].
        x = spikes.reshape(t * b, d, n).transpose(1, 2) if mixed else spikes
        found.insert(0, x.transpose(1, 2).reshape(t, b, d, n))
    return found


def test_contradicting_switches_are_refused() -> None:
    with pytest.raises(UsageError, match=r"fb_gain=2\.0 belongs to the feedback"):
        network(fb=False, fb_gain=2.0)
    with pytest.raises(UsageError, match="carry_state=True belongs to the feedback"):
        network(fb=False, carry_state=True)
    with pytest.raises(UsageError, match="which is no cosine: add fb_cosine=False"):
        network(fb_prompt="channel")
    assert not network(reading="cifar100", fb=False).variant.fb


def test_the_papers_reading_is_a_preset_of_switches() -> None:
    switches = {"fb_cosine": False, "fb_reorder": False, "fb_chain": "none"}
    preset, plain = network(reading="paper"), network(**switches)
    plain.load_state_dict(preset.state_dict())
    assert torch.equal(preset(images()), plain(images()))


def test_differential_attention_in_closed_form() -> None:
    attention = SpikingSelfAttention(4, 2, "per_sample", differential=True)
    t, b, n, width = 2, 3, 5, 2
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(0, 2, (t, b, 4, n), generator=generator).float()
    k, v = (torch.randint(0, 2, (t, b, 8, n), generator=generator).float() for _ in range(2))
    expected = torch.zeros(t, b, 4, n)
    for head in range(2):
        rows = slice(head * width, (head + 1) * width)
        contexts = []
        for part in (2 * head, 2 * head + 1):
            doubled = slice(part * width, (part + 1) * width)
            contexts.append(torch.einsum("tbin,tbjn->tbij", k[:, :, doubled], v[:, :, doubled]))
        difference = contexts[0] - contexts[1]
        expected[:, :, rows] = torch.einsum("tbin,tbij->tbjn", q[:, :, rows], difference) * 0.125
    assert torch.equal(attention.attend(q, k, v), expected)
    assert (expected < 0).any()


def test_the_reorder_mixes_even_where_tokens_and_channels_are_as_many() -> None:
    model, plain = network(depth=3), network(depth=3, fb_reorder=False)
    plain.load_state_dict(model.state_dict())
    signal = 3 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    (mixed,), (kept,) = model.decode(signal), plain.decode(signal)
    assert torch.equal(mixed, kept.transpose(-1, -2))
    assert not torch.equal(mixed, kept)


def test_a_norm_before_the_decoder_and_a_chain_from_below() -> None:
    model = network(reading="cifar100", fb_chain="bottom-up", depth=5)
    signal = 3 * torch.randn(2, 3, 64, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, x = model.decode(signal), signal
    for block, spikes in zip(model.last_stage, found, strict=True):
        layer, norm = block.attention.fb_linear, block.attention.fb_bn
        current = layer(norm(x.flatten(0, 1)).transpose(1, 2)).transpose(1, 2)
        x = LIF()(current.view(x.shape))
        assert torch.equal(spikes, x)
    assert all(0 < float(spikes.mean()) < 1 for spikes in found)


@pytest.mark.parametrize("mixed", [False, True])
def test_feedback_runs_down_the_blocks(mixed: bool) -> None:
    model = network(fb_reorder=mixed, depth=5)
    signal = 3 * torch.randn(2, 3, 64, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = feedback_by_hand(model, signal, mixed), model.decode(signal)
    assert len(found) == 3
    assert all(0 < float(spikes.mean()) < 1 for spikes in found)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_names_of_the_released_code_become_ours() -> None:
    ours = set(load_model("spiliformer-4-384.cifar10").net.state_dict())
    theirs = {"prompt", "prompt_2", *(k for k in ours if "fb_" not in k and "prompt" not in k)}
    parts = ["linear.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    parts.append("bn.num_batches_tracked")
    theirs |= {f"decoder_stage_3.{block}.decoder_{part}" for block in (0, 1) for part in parts}
    assert {released_key(key, "ssa") for key in theirs} == ours
    assert released_key("decoder.0.6.decoder_bn.weight", "attn") == "stage3.6.attn.fb_bn.weight"
    assert released_key("decoder_stage_2.0.decoder_lif", "ssa") == "stage2.0.ssa.fb_lif"

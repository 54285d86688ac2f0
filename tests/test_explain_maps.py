"""Attention maps: against official tensors, explicit formulas, and their own rules."""

import pytest
import torch
from explain_nets import ForeignAdapter, golden, lively, scenes, untrained

from robustbench_snn import UsageError
from robustbench_snn.explain import attention_maps
from robustbench_snn.explain.maps import received_by_head
from robustbench_snn.explain.units import choose_block, wanted_units

ALL = ("rate", "gate", "signed", "received", "contribution", "class")
NAMES = (
    "qkformer_cifar",
    "qkformer_dvs",
    "qkformer_imagenet",
    "sdt_cifar",
    "sdt_dvs",
    "sdt_imagenet",
)


@pytest.fixture(scope="module", params=NAMES)
def official(request):
    return golden(request.param)


def test_spikes_equal_the_official_tensors(official):
    model, content = official
    with torch.no_grad():
        trace = model.forward_trace(content["input"])
    recorded = {
        name.removesuffix(".spikes"): value
        for name, value in content["intermediate"].items()
        if name.endswith(".spikes")
    }
    assert len(recorded) >= 6
    for name, value in recorded.items():
        ours = trace.spikes[name][0].transpose(0, 1)
        assert torch.equal(ours.to(value.dtype), value), name


def test_maps_equal_formulas_on_official_tensors(official):
    model, content = official
    found = attention_maps(model, content["input"], ALL)
    spikes = {
        role: content["intermediate"][f"{found.block}.{role}.spikes"].float()
        for role in ("q_lif", "k_lif", "v_lif")
    }
    heads = content["config"]["num_heads"]
    b, cells = len(content["input"]), found.grid[0] * found.grid[1]
    split = {k: v.flatten(3).unflatten(2, (heads, -1)) for k, v in spikes.items()}
    if model.attention_units()[found.block].kind == "linear":
        # Explicit attention matrix [T, B, h, N, N], which the maps never build.
        matrix = torch.einsum("tbhdi,tbhdj->tbhij", split["q_lif"], split["k_lif"])
        columns = matrix.sum(3)
        weighted = columns * split["v_lif"].sum(3)
        out = content["intermediate"][f"{found.block}.attn_lif.spikes"].float()
        expected = {
            "received": columns.mean((0, 2)),
            "contribution": weighted.mean((0, 2)),
            "rate": out.mean((0, 2)),
        }
        pooled = torch.einsum("tbhij,tbhdj->tbhd", matrix, split["v_lif"])
        assert torch.equal(pooled, torch.einsum("tbhj,tbhdj->tbhd", columns, split["v_lif"]))
    elif not content["config"]["dvs_mode"]:
        mask = content["intermediate"][f"{found.block}.talking_heads_lif.spikes"].float()
        gated = split["q_lif"] * mask.transpose(3, 4)
        expected = {"rate": gated.mean((0, 2, 3))}
        assert {"gate", "received", "contribution", "signed"} <= set(found.undefined)
    else:
        expected = {}
    for kind, value in expected.items():
        assert torch.allclose(found.values[kind].reshape(b, cells), value.reshape(b, cells)), kind


def test_event_layout_pools_as_the_network_does():
    model, content = golden("sdt_dvs")
    found = attention_maps(model, content["input"])
    seen = []
    attention = model.attention_units()[found.block]
    handle = attention.proj_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(content["input"])
    handle.remove()
    core = seen[0].unflatten(0, (model.time_steps, -1))
    assert torch.allclose(found.values["rate"], core.mean((0, 2)))


def test_token_mask_gate_and_rate():
    model, content = golden("qkformer_cifar")
    found = attention_maps(model, content["input"], ALL, block="stage1.0")
    mask = content["intermediate"]["stage1.0.tssa.attn_lif.spikes"].float()
    key = content["intermediate"]["stage1.0.tssa.k_lif.spikes"].float()
    assert torch.allclose(found.values["gate"].flatten(1), mask.mean((0, 2, 3)))
    gated = mask * key.unflatten(2, (mask.shape[2], -1))
    assert torch.allclose(found.values["rate"].flatten(1), gated.mean((0, 2, 3)))
    assert found.grid == (32, 32)
    assert "last" not in found.undefined["class"]
    assert set(found.undefined) == {"signed", "received", "contribution", "class"}


@pytest.mark.parametrize("name", ["qkformer_cifar", "qkformer_dvs", "qkformer_imagenet"])
def test_class_map_sums_to_the_logit(name):
    model, content = golden(name)
    for target in range(3):
        classes = torch.full((len(content["input"]),), target)
        found = attention_maps(model, content["input"], ("class",), target=classes)
        total = found.values["class"].mean((1, 2)) + model.net.head.bias[target]
        assert torch.allclose(total, found.logits[:, target], atol=1e-5)
        assert found.notes == {}


def test_class_map_of_sdt_is_labelled_approximate():
    model, content = golden("sdt_cifar")
    assert "approximate" in attention_maps(model, content["input"], ("class",)).notes["class"]


def test_both_passes_of_spiliformer():
    model = lively()
    x = torch.from_numpy(scenes())
    first, second = (attention_maps(model, x, ALL, number=n) for n in (1, 2))
    default = attention_maps(model, x, ALL)
    assert (default.number, default.passes) == (2, 2)
    assert torch.equal(default.values["rate"], second.values["rate"])
    assert not torch.equal(first.values["contribution"], second.values["contribution"])
    for found, logits in zip((first, second), model.net.passes(model.prepare(x)), strict=True):
        chosen = found.logits.argmax(1)
        total = found.values["class"].mean((1, 2)) + model.net.head.bias[chosen]
        assert torch.allclose(total, logits.gather(1, chosen[:, None])[:, 0], atol=1e-5)


def test_signed_map_is_excitation_minus_inhibition():
    model = lively()
    x = torch.from_numpy(scenes())
    found = attention_maps(model, x, ALL, block="1")
    trace = model.forward_trace(x)
    halves = [
        trace.spikes[f"stage1.0.tssa.q{i}_lif"][0].unflatten(2, (4, -1)).sum(3) for i in (1, 2)
    ]
    expected = (halves[0] - halves[1]).mean((1, 2))
    assert torch.allclose(found.values["signed"].flatten(1), expected)
    assert found.values["signed"].min() < 0
    assert {"received", "contribution", "class"} == set(found.undefined)


def test_linear_map_needs_no_matrix():
    generator = torch.Generator().manual_seed(0)
    q, k = ((torch.rand(2, 3, 4, 5, 9, generator=generator) < 0.3).float() for _ in range(2))
    matrix = torch.einsum("bthdi,bthdj->bthij", q, k)
    assert torch.equal(received_by_head(q, k), matrix.sum(3))


def test_permuting_tokens_permutes_the_map():
    generator = torch.Generator().manual_seed(0)
    q, k = ((torch.rand(1, 2, 2, 4, 9, generator=generator) < 0.4).float() for _ in range(2))
    order = torch.randperm(9, generator=generator)
    moved = received_by_head(q[..., order], k[..., order])
    assert torch.equal(moved, received_by_head(q, k)[..., order])


@pytest.mark.parametrize("name", ["spiliformer-tiny.digit-scenes", "sdt-tiny.digit-scenes"])
def test_a_batch_equals_its_samples_and_calls_repeat(name):
    model = lively(name)
    x = torch.from_numpy(scenes(16))
    whole = attention_maps(model, x, ALL)
    again = attention_maps(model, x, ALL)
    for kind, value in whole.values.items():
        assert torch.equal(value, again.values[kind])
        parts = torch.cat(
            [attention_maps(model, x[i : i + 1], (kind,)).values[kind] for i in range(16)]
        )
        assert torch.allclose(value, parts, atol=1e-5), kind
    assert whole.values["rate"].any()


def test_untrained_network_is_silent_and_finite():
    model = untrained("qkformer-tiny.digit-scenes", dim=16)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.zeros_(module.weight)
    found = attention_maps(model, torch.from_numpy(scenes(2)), ALL)
    assert not found.values["rate"].any()
    assert all(value.isfinite().all() for value in found.values.values())


def test_foreign_attention_needs_only_kind_and_names():
    model = ForeignAdapter()
    x = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    found = attention_maps(model, x, ALL)
    assert found.grid == (4, 6)
    assert set(found.values) == {"rate", "received", "contribution", "class"}
    assert found.values["rate"].any()
    chosen = found.logits.argmax(1)
    total = found.values["class"].mean((1, 2)) + model.net.head.bias[chosen]
    assert torch.allclose(total, found.logits.max(1).values, atol=1e-5)


def test_blocks_by_name_place_and_mistake():
    model = lively()
    assert choose_block(model) == choose_block(model, "4") == choose_block(model, "stage3.1")
    assert choose_block(model, "-4") == "stage1.0.tssa"
    with pytest.raises(UsageError, match="no single block 'stage9'"):
        choose_block(model, "stage9")
    with pytest.raises(UsageError, match=r"--pass 3 .* runs 2 times"):
        attention_maps(model, torch.from_numpy(scenes(1)), number=3)


def test_attention_without_a_known_kind_or_neurons_is_refused():
    model = ForeignAdapter()
    x = torch.zeros(1, 3, 16, 24)
    model.net.attention.neurons = {"query": "x", "key": "y", "value": "z", "output": "w"}
    with pytest.raises(UsageError, match="emitted no spikes"):
        attention_maps(model, x)
    model.net.attention.kind = "liner"
    with pytest.raises(UsageError, match=r"unknown kind 'liner'.*linear"):
        attention_maps(model, x)
    model.net.attention.kind = None
    with pytest.raises(UsageError, match="names no attention module"):
        attention_maps(model, x)


def test_only_the_neurons_needed_are_recorded():
    model = lively()
    x = torch.from_numpy(scenes(2))
    whole = model.forward_trace(x)
    part = model.forward_trace(x, wanted_units(model, "last"))
    assert set(part.spikes) == {f"stage3.1.ssa.{n}_lif" for n in ("q", "k", "v", "attn")}
    assert torch.equal(part.logits, whole.logits)
    assert all(
        torch.equal(a, b)
        for n in part.spikes
        for a, b in zip(part.spikes[n], whole.spikes[n], strict=True)
    )


def test_differential_attention_has_no_map_of_received_attention() -> None:
    model, content = golden("spiliformer_cifar10dvs_a")
    found = attention_maps(model, content["input"].float(), ("rate", "received", "contribution"))
    assert (found.number, found.passes) == (2, 2)
    assert set(found.values) == {"rate"}
    assert "subtract two attentions" in found.undefined["received"]

"""Attributions and Grad-CAM on networks that have no attention module."""

from pathlib import Path

import pytest
import torch
import unattended_models as nets
from PIL import Image

from robustbench_snn.explain import grad_cam
from robustbench_snn.explain.command import main
from robustbench_snn.explain.stored import load

PLUGIN = str(Path(__file__).parent / "unattended_models.py")
LAYERS = {"multi.test": "1", "single.test": "1", "flat.test": "lif", "cnn.test": "0"}
KINDS = {
    "multi.test": nets.MultiStep,
    "single.test": nets.SingleStep,
    "flat.test": nets.Flattened,
    "cnn.test": nets.Plain,
}


def words(name, out, *more):
    return ["--plugin", PLUGIN, "--model", name, "--results", str(out), "--quiet", *more]


@pytest.mark.parametrize("name", LAYERS)
def test_attributions_are_drawn_and_measured(name, tmp_path):
    kinds = "occlusion,saliency,integrated_gradients,grad_cam"
    asked = ["--dataset", "digit-scenes", "--n", "4", "--map", kinds, "--layer", LAYERS[name]]
    metrics = ["--metrics", "location,faithfulness", "--costly-n", "2", "--steps", "4"]
    out = ["--out", str(tmp_path / "sheet.png"), "--show", "2"]
    assert main(words(name, tmp_path / "r", *asked, *metrics, *out)) == 0
    found = {(one.kind, one.measure): one for one in load(tmp_path / "r")}
    for kind in kinds.split(","):
        maps = found[kind, "maps"].maps
        assert maps.any(), kind
        assert (tmp_path / f"sheet-{kind}.png").is_file()
        assert (kind, "faithfulness") in found
    assert found["grad_cam", "maps"].maps.shape[1:] == (14, 14)
    assert '"layer"' in found["grad_cam", "maps"].facts["settings"]


def test_photographs(tmp_path):
    Image.new("RGB", (40, 50), (200, 30, 90)).save(tmp_path / "a.png")
    asked = ["--image", str(tmp_path / "a.png"), "--map", "saliency"]
    assert main(words("multi.test", tmp_path, *asked, "--out", str(tmp_path / "o.png"))) == 0


def test_all_layouts_of_time_give_the_same_map():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([1, 4])
    maps = {name: grad_cam(KINDS[name](), x, target, layer=LAYERS[name]) for name in LAYERS}
    for name in ("single.test", "flat.test"):
        assert torch.allclose(maps[name], maps["multi.test"], atol=1e-7), name
    before = [
        grad_cam(KINDS[name](), x, target, layer=at)
        for name, at in (("multi.test", "0"), ("single.test", "0"), ("flat.test", "conv"))
    ]
    assert torch.allclose(before[0], before[1], atol=1e-7)
    assert torch.allclose(before[0], before[2], atol=1e-7)
    alone = grad_cam(nets.Flattened(), x[:1], target[:1], layer="conv")
    assert torch.allclose(alone[0], before[2][0], atol=1e-7)


def test_grad_cam_of_a_linear_head_by_hand():
    model = nets.Plain()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = torch.relu(model.net[0](x))
    # Mean pooling and a linear head: dS/dA is the weight over the number of positions.
    weights = model.net[4].weight[3] / (14 * 14)
    expected = torch.einsum("c,bchw->bhw", weights, features).clamp_min(0)
    found = grad_cam(model, x, torch.tensor([3, 3]), layer="1")
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["--map", "rate"], "names no attention module"),
        (["--map", "grad_cam"], "name a layer with --layer, as 0"),
        (["--map", "grad_cam", "--layer", "nowhere"], "has no layer 'nowhere'"),
        (["--map", "grad_cam", "--layer", "4"], "no positions to draw a map of"),
        (["--map", "saliency", "--layer", "0"], "leave --layer out"),
    ],
)
def test_mistakes_get_one_sentence(asked, sentence, tmp_path, capsys):
    code = main(words("cnn.test", tmp_path, "--dataset", "digit-scenes", "--n", "2", *asked))
    told = capsys.readouterr().err
    assert code == 2, told
    assert sentence in told
    assert "Traceback" not in told

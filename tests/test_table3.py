"""Table 3: which differences it takes, from results of models with parts left out."""

import json
from pathlib import Path

import numpy as np

from robustbench_snn.attacks import make_spec
from robustbench_snn.config import CLEAN, canonical_json, content_key
from robustbench_snn.report.table3 import Table3
from robustbench_snn.store import write_shard

PRESETS = Path(__file__).parent.parent / "experiments" / "presets"
MODELS = {
    "spiliformer-a.cifar10": {"dim": 8},
    "spiliformer-b.cifar10": {"dim": 8, "ff": False},
    "spiliformer-c.cifar10": {"dim": 8, "fb": False},
    "qkformer-a.cifar10": {"dim": 8},
}


def store(root, n=40):
    labels = np.arange(n) % 10
    specs = [CLEAN, make_spec("pgd", {"eps": "8/255", "step_size": "2/255", "steps": "10"})]
    for i, (model, config) in enumerate(MODELS.items()):
        for spec in specs:
            wrong = np.arange(n) < 4 * (i + 1)
            row = {
                "model": model,
                "model_config": json.dumps(config),
                "weights_sha256": "ab" * 32,
                "dataset": "cifar10",
                "dataset_source": "local",
                "dataset_revision": "1a2b",
                "split": "test",
                "attack": spec.name,
                "attack_params": canonical_json(dict(spec.params)),
                "eps_unit": "pixel",
                "clamp": "[0, 1]",
                "time_steps": 2,
                "surrogate": "sigmoid(alpha=4)",
                "ssa_proj_lif": "per_sample",
                "seed": 0,
                "status": "ok",
                "start": 0,
                "stop": n,
                "n": n,
                "sample_ids": [f"test/{k:05d}" for k in range(n)],
                "labels": labels,
                "pred_clean": np.where(wrong, (labels + 1) % 10, labels),
                "pred_adv": np.where(wrong, (labels + 1) % 10, labels),
            }
            for name in ("loss_clean", "loss_adv", "margin_clean", "margin_adv", "linf"):
                row[name] = [0.0] * n
            row["valid"] = [True] * n
            write_shard(root, content_key({"m": model, "a": row["attack_params"]}), row)


def test_whole_model_minus_each_other(tmp_path):
    store(tmp_path)
    table = Table3.load(
        tmp_path, PRESETS / "table3.toml", PRESETS / "table3_reported.toml", "cifar10"
    )
    differences = {r["model"]: r for r in table.records() if r["kind"] == "difference"}
    labels = {record["model"] for record in table.records() if record["kind"] == "difference"}
    assert labels == {f"spiliformer-a.cifar10 − {name}" for name in list(MODELS)[1:]}
    clean = {r["model"]: r["value"] for r in table.records() if r["column"] == "clean"}
    assert clean["spiliformer-a.cifar10"] == 0.9
    assert abs(clean["spiliformer-a.cifar10 − qkformer-a.cifar10"] - 0.3) < 1e-9
    assert all(r["low"] <= r["value"] <= r["high"] for r in differences.values())
    assert "could be transcribed" in table.markdown()
    assert "yardstick" not in table.markdown()
    assert "tab:table3}" in table.latex()

"""The columns of a results row: one row per model, data set, attack and shard."""

from __future__ import annotations

SCHEMA_VERSION = 1

IDENTITY = {
    "schema_version": "int64",
    "key": "string",
    "run_id": "string",
    "model": "string",
    "model_config": "string",
    "model_source_sha256": "string",
    "code_sha256": "string",
    "weights_sha256": "string",
    "dataset": "string",
    "dataset_source": "string",
    "dataset_revision": "string",
    "split": "string",
    "corruption": "string",
    "severity": "int64",
    "corruption_source": "string",
    "corruption_settings": "string",
    "attack": "string",
    "attack_params": "string",
    "attack_label": "string",
    "norm": "string",
    "eps": "float64",
    "eps_unit": "string",
    "clamp": "string",
    "time_steps": "int64",
    "surrogate": "string",
    "ssa_proj_lif": "string",
    "seed": "int64",
    "shard_index": "int64",
    "shard_count": "int64",
    "start": "int64",
    "stop": "int64",
}
SAMPLES = {
    "sample_ids": "list<string>",
    "labels": "list<int64>",
    "pred_clean": "list<int64>",
    "pred_adv": "list<int64>",
    "valid": "list<bool>",
    "loss_clean": "list<float32>",
    "loss_adv": "list<float32>",
    "margin_clean": "list<float32>",
    "margin_adv": "list<float32>",
    "linf": "list<float32>",
}
OUTCOME = {
    "n": "int64",
    "correct_clean": "int64",
    "correct_adv": "int64",
    "mean_loss_clean": "float64",
    "mean_loss_adv": "float64",
    "linf_max": "float64",
    "range_ok": "bool",
    "norm_ok": "bool",
}
COST = {
    "forward_calls": "int64",
    "backward_calls": "int64",
    "gradients": "int64",
    "cost_shared_by": "int64",
    "seconds": "float64",
    "peak_memory_bytes": "int64",
}
HEALTH = {
    "nonfinite_answers": "int64",
    "zero_grad_frac": "float64",
    "nonfinite_grad_frac": "float64",
    "zero_pixel_frac": "float64",
    "repeat_logit_diff": "float64",
    "fast_checked": "int64",
    "fast_agree": "int64",
    "flags": "list<string>",
}
EXECUTION = {
    "status": "string",
    "error": "string",
    "device": "string",
    "device_name": "string",
    "dtype": "string",
    "precision": "string",
    "batch_size": "int64",
    "oom_retries": "int64",
    "worker_retries": "int64",
    "started_at": "string",
}
PROVENANCE = {
    "package_version": "string",
    "git_commit": "string",
    "git_dirty": "bool",
    "torch_version": "string",
    "spikingjelly_version": "string",
    "python_version": "string",
    "platform": "string",
    "command": "string",
}
# What files of earlier releases may lack and still be whole.
OPTIONAL = {"code_sha256"}
COLUMNS: dict[str, str] = {
    **IDENTITY,
    **SAMPLES,
    **OUTCOME,
    **COST,
    **HEALTH,
    **EXECUTION,
    **PROVENANCE,
}

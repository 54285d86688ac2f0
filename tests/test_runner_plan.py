from dataclasses import replace
from pathlib import Path

import pytest

from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.card import Preprocess
from robustbench_snn.config import CLEAN, RunConfig, Shard
from robustbench_snn.errors import UsageError
from robustbench_snn.plan import (
    DataIdentity,
    ModelIdentity,
    forwards,
    key_content,
    missing,
    plan,
)
from robustbench_snn.store import write_shard

PGD = make_spec("pgd", {"steps": 10})
MODEL = ModelIdentity(
    name="m.d",
    config="{}",
    weights_sha256="aa",
    source_sha256="",
    surrogate="sigmoid(alpha=4)",
    ssa_proj_lif="",
    time_steps=2,
    preprocess=Preprocess(),
)
DATA = DataIdentity("d", "embedded", "r1", "test", 300)


def make_plan(tmp_path, attacks=(CLEAN, PGD), model=MODEL, data=DATA, **changes):
    config = RunConfig(models=(model.name,), attacks=attacks, out=str(tmp_path), **changes)
    return plan(config, [model], {model.name: [data]}, "cpu")


def keys(tasks):
    return [cell.key for task in tasks for cell in task.cells]


def test_tasks_cover_models_shards_and_groups(tmp_path):
    attacks = [
        make_spec("pgd", {"steps": 5}),
        make_spec("fgsm", {"eps": 0.1}),
        CLEAN,
        make_spec("pgd", {"steps": 10}),
        make_spec("fgsm", {"eps": 0.2}),
    ]
    tasks = make_plan(tmp_path, attacks)
    assert [(task.shard.start, task.shard.stop) for task in tasks] == [
        (0, 128),
        (128, 256),
        (256, 300),
    ]
    names = [[cell.spec.name for cell in group] for group in tasks[0].groups]
    assert names == [["clean"], ["pgd", "pgd"], ["fgsm", "fgsm"]]
    assert len(set(keys(tasks))) == 15


def test_what_can_change_a_number_changes_the_key(tmp_path):
    base = keys(make_plan(tmp_path))[1]
    others = [
        make_plan(tmp_path, seed=1),
        make_plan(tmp_path, attacks=(CLEAN, make_spec("pgd", {"steps": 11}))),
        make_plan(tmp_path, shard_size=64),
        make_plan(tmp_path, data=replace(DATA, revision="r2")),
        make_plan(tmp_path, data=replace(DATA, split="holdout")),
    ]
    for field, value in {
        "weights_sha256": "bb",
        "config": '{"T":4}',
        "source_sha256": "cc",
        "surrogate": "atan(alpha=2)",
        "time_steps": 4,
        "preprocess": Preprocess(resize=36),
        "ssa_proj_lif": "official",
    }.items():
        others.append(make_plan(tmp_path, model=replace(MODEL, **{field: value})))
    found = [keys(tasks)[1] for tasks in others]
    assert len({base, *found}) == 1 + len(others)


def test_what_cannot_change_a_number_does_not(tmp_path):
    base = keys(make_plan(tmp_path))
    assert keys(make_plan(tmp_path, batch_size=7)) == base
    assert keys(make_plan(tmp_path, data_dir="elsewhere", device="cuda:3")) == base
    assert keys(make_plan(tmp_path / "other")) == base
    assert keys(make_plan(tmp_path, data=replace(DATA, source="local"))) == base
    longer = make_plan(tmp_path, data=replace(DATA, size=1000))
    assert keys(longer)[:4] == base[:4]


def test_the_batch_size_belongs_to_batch_dependent_results(tmp_path):
    leaky = replace(MODEL, ssa_proj_lif="official", batch_dependent=True)
    assert keys(make_plan(tmp_path, model=leaky, batch_size=7)) != keys(
        make_plan(tmp_path, model=leaky)
    )
    config = RunConfig((), (), batch_size=7)
    foreign = make_spec("torchattacks:PGD", {})
    content = key_content(config, MODEL, DATA, Shard(0, 1, 0, 1), foreign, "cpu")
    assert content["batch_size"] == 7
    assert key_content(config, MODEL, DATA, Shard(0, 1, 0, 1), PGD, "cpu")["batch_size"] is None


def test_number_of_samples(tmp_path):
    assert make_plan(tmp_path, n=100)[-1].shard.stop == 100
    assert make_plan(tmp_path, data=replace(DATA, size=5000))[-1].shard.stop == 1000
    with pytest.raises(UsageError, match=r"--n 301 .* test split \(300\)"):
        make_plan(tmp_path, n=301)


def test_missing_drops_what_is_done_and_notes_what_is_broken(tmp_path):
    specs = (make_spec("pgd", {"steps": 5}), make_spec("pgd", {"steps": 10}))
    tasks = make_plan(tmp_path, specs, n=256)
    first, second = tasks[0].groups[0]
    for task, cell, status in [
        (tasks[0], first, "ok"),
        (tasks[0], second, "failed"),
        (tasks[1], tasks[1].groups[0][0], "ok"),
        (tasks[1], tasks[1].groups[0][1], "ok"),
    ]:
        row = {"model": "m.d", "dataset": "d", "attack": "pgd", "status": status}
        row["code_sha256"] = cell.code
        row |= {"start": task.shard.start, "stop": task.shard.stop}
        assert write_shard(tmp_path, cell.key, row) == cell.path
    left, notes = missing(tasks)
    assert [cell.key for task in left for cell in task.cells] == [second.key]
    assert notes == []
    Path(first.path).write_bytes(b"torn")
    left, notes = missing(tasks)
    assert [cell.key for task in left for cell in task.cells] == [first.key, second.key]
    assert len(notes) == 1
    assert str(first.path) in notes[0]


def test_forwards_counts_one_trajectory_for_a_group(tmp_path):
    specs = (CLEAN, make_spec("pgd", {"steps": 5}), make_spec("pgd", {"steps": 50}))
    clean, pgd = make_plan(tmp_path, specs)[0].groups
    assert (forwards(clean), forwards(pgd)) == (1, 152)

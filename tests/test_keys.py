"""Whatever can change a number is in its key: of attacks, of maps, of suites."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from robustbench_snn import source_code
from robustbench_snn.attacks.base import Attack
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.card import Preprocess
from robustbench_snn.config import RunConfig, Shard, content_key
from robustbench_snn.explain.jobs import make_job
from robustbench_snn.explain.settings import ExplainConfig, parse_change
from robustbench_snn.plan import DataIdentity, ModelIdentity, key_content
from robustbench_snn.suites.spec import read_suite
from robustbench_snn.suites.summary import suite_key
from robustbench_snn.suites.worker import SuiteWorker

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
OTHER_MODELS = [
    replace(MODEL, name="n.d"),
    replace(MODEL, config='{"T":4}'),
    replace(MODEL, weights_sha256="bb"),
    replace(MODEL, source_sha256="cc"),
    replace(MODEL, surrogate="atan(alpha=2)"),
    replace(MODEL, ssa_proj_lif="official"),
    replace(MODEL, time_steps=4),
    replace(MODEL, preprocess=Preprocess(resize=36)),
]
DATA = DataIdentity("d", "embedded", "r1", "test", 300)
OTHER_DATA = [
    replace(DATA, name="e"),
    replace(DATA, revision="r2"),
    replace(DATA, split="holdout"),
]
SHARD = Shard(0, 128, 0, 3)
OTHER_SHARDS = [Shard(0, 64, 0, 5), Shard(64, 128, 1, 3)]
PGD = make_spec("pgd", {"steps": 10})


def test_the_source_of_an_attack_from_a_plugin_is_in_its_key(tmp_path, monkeypatch):
    path = tmp_path / "my_attack.py"
    path.write_text(
        "from robustbench_snn.attacks.base import Attack\nclass Mine(Attack):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_attack

    assert issubclass(my_attack.Mine, Attack)
    monkeypatch.setattr(
        "robustbench_snn.plan.attack_type",
        lambda name: SimpleNamespace(impl=my_attack.Mine, batch_dependent=False),
    )
    config = RunConfig(("m.d",), ())

    def content():
        return key_content(config, MODEL, DATA, SHARD, PGD, "cpu")

    first = content()
    assert content() == first
    path.write_text(path.read_text() + "# another line\n")
    source_code._foreign.cache_clear()  # as in the next process
    second = content()
    assert {name for name in first if first[name] != second[name]} == {"attack_source"}


def test_keys_of_attacks_hold_version_device_and_precision(monkeypatch):
    config = RunConfig(("m.d",), ())

    def key(config=config, spec=PGD, device="cpu"):
        return content_key(key_content(config, MODEL, DATA, SHARD, spec, device))

    keys = [
        key(),
        key(device="cuda"),
        key(replace(config, fast="early-stop")),
        key(replace(config, fast="bf16")),
        key(replace(config, seed=1)),
        *(
            content_key(key_content(config, model, DATA, SHARD, PGD, "cpu"))
            for model in OTHER_MODELS
        ),
        *(content_key(key_content(config, MODEL, data, SHARD, PGD, "cpu")) for data in OTHER_DATA),
        *(
            content_key(key_content(config, MODEL, DATA, shard, PGD, "cpu"))
            for shard in OTHER_SHARDS
        ),
    ]
    monkeypatch.setattr("robustbench_snn.plan.EVALUATION_VERSION", 999)
    keys.append(key())
    monkeypatch.setattr("robustbench_snn.plan.SCHEMA_VERSION", 999)
    keys.append(key())
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("estimator", "matters"), [("pdsg:over=batch", True), ("pdsg:over=sample", False)]
)
def test_an_estimator_over_the_batch_has_its_size_in_the_key(estimator, matters):
    spec = make_spec("apgd", {"estimator": estimator})
    contents = [
        key_content(RunConfig((), (), batch_size=size), MODEL, DATA, SHARD, spec, "cpu")
        for size in (7, 64)
    ]
    assert (contents[0] != contents[1]) == matters


def explain_key(model=MODEL, data=DATA, shard=SHARD, kind="rate", measure="maps", **changes):
    given = {name: changes.pop(name) for name in ("change", "control") if name in changes}
    run = {name: changes.pop(name) for name in ("seed", "device", "batch_size") if name in changes}
    config = ExplainConfig(replace(RunConfig((), (), device="cpu"), **run), **changes)
    return make_job(config, model, data, shard, kind, measure, **given).key


def boxes(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).write_text("<annotation/>")
    return str(folder)


def test_explain_keys_hold_all_that_can_change_a_map(tmp_path):
    faithful = {"measure": "faithfulness", "kind": "centre"}
    stable = {"measure": "stability"}
    keys = [
        explain_key(),
        *(explain_key(model=model) for model in OTHER_MODELS),
        *(explain_key(data=data) for data in OTHER_DATA),
        *(explain_key(shard=shard) for shard in OTHER_SHARDS),
        explain_key(kind="received"),
        explain_key(measure="randomisation"),
        explain_key(block="stage1.0.tssa"),
        explain_key(number=1),
        explain_key(number=2),
        explain_key(target="label"),
        explain_key(boxes=boxes(tmp_path / "one", "a.xml")),
        explain_key(boxes=boxes(tmp_path / "two", "a.xml", "b.xml")),
        explain_key(seed=1),
        explain_key(device="cuda"),
        explain_key(measure="faithfulness"),
        explain_key(measure="faithfulness", steps=8),
        explain_key(**faithful, control=np.ones((2, 2))),
        explain_key(**faithful, control=np.eye(2)),
        explain_key(**stable, change=parse_change("contrast:2")),
        explain_key(**stable, change=parse_change("contrast:3")),
        explain_key(**stable, change=parse_change("pgd:steps=3")),
        explain_key(measure="grid_pointing"),
        explain_key(measure="grid_pointing", data=replace(DATA, size=200)),
    ]
    assert len(set(keys)) == len(keys)


def test_explain_keys_hold_the_batch_size_only_where_it_matters():
    assert explain_key(batch_size=7) == explain_key()
    leaky = replace(MODEL, batch_dependent=True)
    assert explain_key(model=leaky, batch_size=7) != explain_key(model=leaky)


def suite(**changes):
    return replace(read_suite("standard"), **changes)


def a_suite_key(model=MODEL, data=DATA, others=(), n=200, seed=0, batch_size=64, asked=None):
    config = RunConfig((model.name,), (), seed=seed, batch_size=batch_size)
    run = SimpleNamespace(
        tasks=[SimpleNamespace(shard=SHARD)],
        config=config,
        model=model,
        data=data,
        suite=asked or suite(),
        others=list(others),
        found=SimpleNamespace(n=n),
        worker=SimpleNamespace(device=SimpleNamespace(type="cpu")),
    )
    return suite_key(run)


def test_suite_keys_hold_all_that_can_change_a_verdict():
    steps = suite().step
    keys = [
        a_suite_key(),
        *(a_suite_key(model=model) for model in OTHER_MODELS),
        *(a_suite_key(data=data) for data in OTHER_DATA),
        a_suite_key(others=["a"]),
        a_suite_key(others=["a", "b"]),
        a_suite_key(n=100),
        a_suite_key(seed=1),
        a_suite_key(batch_size=32),
        a_suite_key(asked=suite(eps=4 / 255)),
        a_suite_key(asked=suite(step=steps[:-1])),
        a_suite_key(asked=suite(step=(*steps[1:], steps[0]))),
    ]
    assert len(set(keys)) == len(keys)
    assert a_suite_key() == keys[0]


@pytest.fixture
def worker(tmp_path):
    config = RunConfig(("m.d",), (), out=str(tmp_path), device="cpu")
    return SuiteWorker(config, "test")


def test_step_keys_hold_the_survivors(worker):
    def cell(ids, shard=SHARD, spec=PGD):
        task = SimpleNamespace(model=MODEL, data=DATA, shard=shard)
        return worker._step_cell(task, spec, ids)

    cells = [
        cell(["test/0", "test/1"]),
        cell(["test/0"]),
        cell(["test/0", "test/2"]),
        cell(["test/01", "test/1"]),
        cell(["test/0", "test/1"], shard=OTHER_SHARDS[0]),
        cell(["test/0", "test/1"], spec=make_spec("pgd", {"steps": 11})),
    ]
    assert len({one.key for one in cells}) == len(cells)
    assert len({one.path for one in cells}) == len(cells)
    ordinary = key_content(worker.config, MODEL, DATA, SHARD, PGD, "cpu")
    assert content_key(ordinary) not in {one.key for one in cells}

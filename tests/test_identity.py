"""Nothing stale: what changed on disk, or in this package, never stands under an old key."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robustbench_snn import ModelCard, RunConfig, make_spec, plan, runner
from robustbench_snn.config import CLEAN
from robustbench_snn.errors import UsageError
from robustbench_snn.executors.processes import processes
from robustbench_snn.store import Results
from robustbench_snn.worker import Worker

PLUGIN = str(Path(__file__).parent / "tiny_models.py")
MIXING = """
import torch
from torch import nn
from robustbench_snn import ModelAdapter, ModelCard

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    def forward(self, s):
        out = self.f(s[0])
        return out - out.mean(0){tail}

class Mixing(ModelAdapter):
    card = ModelCard(name="{name}.test", dataset="digit-scenes", num_classes=10,
                     input_shape=(3, 32, 32), time_steps=1)
    def build(self):
        torch.manual_seed(0)
        return Net()
"""


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=("tiny-a.test",),
        attacks=(CLEAN, make_spec("fgsm", {})),
        n=16,
        batch_size=8,
        shard_size=8,
        out=str(tmp_path / "out"),
        plugins=(PLUGIN,),
        device="cpu",
    )


def weights(path, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv.weight": (8, 3, 5, 5), "conv.bias": (8,), "head.weight": (10, 8)}
    shapes["head.bias"] = (10,)
    save_file({k: torch.randn(*v, generator=generator) for k, v in shapes.items()}, path)
    return str(path)


@pytest.mark.parametrize("executor", [runner.inline, partial(processes, workers=1)])
def test_weights_that_change_during_a_run_stop_it(config, tmp_path, monkeypatch, executor):
    one = replace(config, weights=weights(tmp_path / "w.safetensors", 1))

    def meanwhile(config, worker, todo):
        weights(tmp_path / "w.safetensors", 2)
        # What a worker process does: open everything itself.
        worker.__init__(config, "again")
        return []

    monkeypatch.setattr(runner, "check_models", meanwhile)
    with pytest.raises(UsageError, match=r"model 'tiny-a.test' \(weights_sha256\) changed on disk"):
        runner.run(one, executor=executor)
    assert not list(Path(one.out).rglob("*.parquet"))


def test_code_that_changes_during_a_run_stops_it(config, monkeypatch):
    worker = Worker(config, "test")
    (task, *_) = runner.survey(config, worker, "test").tasks
    monkeypatch.setattr("robustbench_snn.worker.code_sha256", lambda *_: "another")
    with pytest.raises(UsageError, match="the source of this package changed on disk"):
        list(worker.run(task, lambda cells, done: None))


def test_data_that_changes_during_a_run_stops_it(config):
    worker = Worker(config, "test")
    (task, *_) = runner.survey(config, worker, "test").tasks
    other = replace(task, data=replace(task.data, revision="another"))
    with pytest.raises(UsageError, match="data set 'digit-scenes' changed on disk"):
        list(worker.run(other, lambda cells, done: None))


def test_results_of_another_source_are_computed_again_unless_kept(config, monkeypatch):
    first = runner.run(config)
    assert all(len(row["code_sha256"]) == 64 for row in first)
    monkeypatch.setattr(plan, "own_source_sha256", lambda roots, spared="": "0" * 64)
    heard = []

    class Listener(runner.Silent):
        def start(self, session):
            heard.extend(session.notes)

    kept = runner.run(replace(config, keep_older=True), Listener())
    assert [row["started_at"] for row in kept] == [row["started_at"] for row in first]
    assert all("older-code" in row["flags"] for row in kept)
    assert "4 results on disk" in heard[0]
    assert "--keep-older takes them as they are" in heard[0]
    heard.clear()
    again = runner.run(config, Listener())
    assert not {row["started_at"] for row in again} & {row["started_at"] for row in first}
    assert "are computed again" in heard[0]
    assert Results.load(config.out).frame()["code_sha256"].unique().tolist() == ["0" * 64]


def test_another_torch_is_told(config, monkeypatch):
    runner.run(config)
    monkeypatch.setattr(plan, "version_of", lambda name: "99.0")
    session = runner.prepare(config, Worker(config, "test"), "test")
    assert not session.todo
    (note,) = session.notes
    assert note.startswith(f"4 results on disk were computed with torch {torch.__version__}")
    assert "this is 99.0" in note


def test_a_plugin_that_mixes_its_batch_has_the_batch_in_its_key(config, tmp_path):
    path = tmp_path / "mixing.py"
    path.write_text(MIXING.format(name="mixing", tail=""))
    mixing = replace(config, models=("mixing.test",), plugins=(str(path),))
    whole = runner.run(mixing)
    assert all("batch-dependent" in row["flags"] for row in whole)
    halves = runner.run(replace(mixing, batch_size=4))
    assert not {row["key"] for row in whole} & {row["key"] for row in halves}
    fresh = runner.run(replace(mixing, batch_size=4, out=str(tmp_path / "fresh")))
    told = ["correct_clean", "correct_adv", "mean_loss_adv"]
    assert [[r[t] for t in told] for r in halves] == [[r[t] for t in told] for r in fresh]
    # Two answers to each sample stay two: nothing picks one of them.
    assert len(Results.load(mixing.out).samples()) == 4 * 16


def test_a_plugin_that_does_not_mix_keeps_one_key_for_all_batches(config):
    one, two = runner.run(config), runner.run(replace(config, batch_size=4))
    assert [row["started_at"] for row in one] == [row["started_at"] for row in two]


@pytest.mark.parametrize("name", ["a/b.test", "..", "../up", "a..b", ".hidden", "a\nb", "", "a b"])
def test_names_that_are_no_folder_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match=r"must be (usable as the name of a folder|a text)"):
        ModelCard(name, "digit-scenes", 10, (3, 32, 32), 1)


COMMANDS = [
    ("run", ["--plugin", "PLUG", "--attack", "clean", "--out", "OUT"]),
    ("explain.command", ["--plugin", "PLUG", "--dataset", "digit-scenes"]),
    ("check", ["--plugin", "PLUG"]),
    ("train", ["--plugin", "PLUG", "--model", "up", "--out", "OUT"]),
]


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_refuses_such_a_name_at_the_start(command, words, tmp_path, capsys):
    from importlib import import_module

    path = tmp_path / f"{command}.py"
    path.write_text(MIXING.format(name="../up", tail=""))
    named = {"PLUG": str(path), "OUT": str(tmp_path / "out" / "in")}
    main = import_module(f"robustbench_snn.{command}").main
    assert main([named.get(word, word) for word in words]) == 2
    assert (
        "name is '../up.test', but must be usable as the name of a folder"
        in capsys.readouterr().err
    )
    assert not os.path.exists(tmp_path / "out")


def test_a_transfer_source_from_a_plugin_is_keyed_by_weights_and_code(tmp_path):
    import sys

    from robustbench_snn.attacks.transfer_source import load_source
    from robustbench_snn.catalogue import load_plugin
    from robustbench_snn.source_code import _foreign

    for folder, tail in (("a", ""), ("b", " * 2"), ("c", "")):
        (tmp_path / folder).mkdir()
        text = MIXING.format(name=f"source-{folder}", tail=tail)
        seed = "manual_seed(1)" if folder == "c" else "manual_seed(0)"
        path = tmp_path / folder / "source.py"
        path.write_text(text.replace("manual_seed(0)", seed))
        load_plugin(str(path))
    given = [make_spec("transfer", {"source": f"source-{name}.test"}) for name in "abc"]
    hashes = {str(spec.params["source"]).partition("@")[2] for spec in given}
    assert len(hashes) == 3
    assert "untrained" not in hashes
    source = str(given[0].params["source"])
    assert make_spec("transfer", {"source": source}) == given[0]
    assert load_source(source, "cpu").card.name == "source-a.test"
    with pytest.raises(UsageError, match="asks for weights and code"):
        make_spec("transfer", {"source": "source-a.test@untrained"})
    # The same plug-in after an edit, as a process that starts later sees it.
    module = type(load_source(source, "cpu")).__module__
    Path(sys.modules[module].__file__).write_text("# edited")
    _foreign.cache_clear()
    load_source.cache_clear()
    with pytest.raises(UsageError, match=r"transfer source 'source-a.test' changed on disk"):
        load_source(source, "cpu")

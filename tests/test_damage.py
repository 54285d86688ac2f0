"""Damaged, foreign and misplaced files are noticed and computed again; never read, never fatal."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustbench_snn import RunConfig, make_spec, runner
from robustbench_snn.config import CLEAN
from robustbench_snn.row_files import is_intact, is_sealed, read_table, sealed
from robustbench_snn.store import Results, look, read_row, shard_state
from robustbench_snn.suites.worker import SuiteWorker

PLUGIN = str(Path(__file__).parent / "tiny_models.py")
BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "bit_flips.py"


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=("tiny-a.test",),
        attacks=(CLEAN,),
        n=8,
        batch_size=8,
        shard_size=8,
        out=str(tmp_path / "out"),
        plugins=(PLUGIN,),
        device="cpu",
    )


def test_no_flipped_bit_changes_a_result_silently():
    spec = importlib.util.spec_from_file_location("bit_flips", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.experiment(300) == {"noticed": 300}


def test_every_single_byte_is_under_the_checksum():
    content = sealed(pa.table({"code_sha256": ["c"], "n": [1]}), use_dictionary=False)
    assert is_sealed(content)
    assert is_intact(content)
    assert pq.read_table(pa.BufferReader(content)).column("n").to_pylist() == [1]
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]
        assert not is_intact(changed), at
    assert not is_intact(content[:-1])
    assert not is_intact(content + b"\0")


def test_a_row_that_lost_its_checksum_is_no_older_row(tmp_path):
    pq.write_table(pa.table({"code_sha256": ["c"], "n": [1]}), tmp_path / "new")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "old")
    assert read_table(tmp_path / "new") is None
    assert read_table(tmp_path / "old").column("n").to_pylist() == [1]


class Listener(runner.Silent):
    def __init__(self):
        self.notes = []

    def start(self, session):
        self.notes += session.notes


def row_file(config):
    (path,) = Path(config.out).rglob("*.parquet")
    return path


def write_unsealed(table, path):
    """As releases before the checksum wrote it."""
    pq.write_table(table.replace_schema_metadata(None), path)
    assert not is_sealed(path.read_bytes())


def as_directory(path):
    path.unlink()
    path.mkdir()
    (path / "something").write_text("of the user")


def as_full_of_nothing(path):
    path.write_bytes(b"")


def of_another_schema(path):
    table = pq.read_table(path)
    at = table.column_names.index("n")
    path.write_bytes(sealed(table.set_column(at, "n", pa.array(["eight"]))))


def of_a_newer_schema(path):
    table = pq.read_table(path)
    at = table.column_names.index("schema_version")
    path.write_bytes(sealed(table.set_column(at, "schema_version", pa.array([99]))))


def of_an_old_release(path):
    write_unsealed(pq.read_table(path).drop(["code_sha256", "precision", "flags"]), path)


def of_another_key(path):
    table = pq.read_table(path)
    at = table.column_names.index("key")
    path.write_bytes(sealed(table.set_column(at, "key", pa.array(["ab" * 32]))))


def with_broken_text(path):
    table = pq.read_table(path)
    broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    table = table.set_column(table.column_names.index("model"), "model", broken)
    write_unsealed(table.drop(["code_sha256"]), path)


def a_link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES = [
    as_directory,
    as_full_of_nothing,
    of_another_schema,
    of_a_newer_schema,
    of_an_old_release,
    of_another_key,
    with_broken_text,
    a_link_to_nothing,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_stands_in_a_rows_place_is_computed_again_with_a_note(config, damage):
    (before,) = runner.run(config)
    path = row_file(config)
    damage(path)
    assert shard_state(path, before["key"], code=before["code_sha256"]) == "unreadable"
    listener = Listener()
    (after,) = runner.run(config, listener)
    (note,) = listener.notes
    assert str(path) in note
    assert "is computed again" in note
    assert after["correct_clean"] == before["correct_clean"]
    assert shard_state(path, after["key"], code=after["code_sha256"]) == "ok"
    assert len(Results.load(config.out)) == 1
    if damage is as_directory:
        assert (path.with_name(path.name + ".folder") / "something").is_file()


def test_a_row_of_an_earlier_release_is_older_and_not_damaged(config):
    (row,) = runner.run(config)
    path = row_file(config)
    write_unsealed(pq.read_table(path).drop(["code_sha256"]), path)
    state, found = look(path, row["key"], code=row["code_sha256"])
    assert state == "older"
    assert found["correct_clean"] == row["correct_clean"]
    (kept,) = runner.run(replace(config, keep_older=True))
    assert kept["started_at"] == row["started_at"]
    (again,) = runner.run(config)
    assert again["started_at"] != row["started_at"]


def step(config, spec, rows):
    worker = SuiteWorker(config, "test")
    (task,) = runner.survey(config, worker, "test").tasks
    return worker.step(task, spec, rows)


@pytest.mark.parametrize("damage", ["flipped", "missing", "directory"])
def test_a_damaged_adversarial_image_is_computed_again(config, capsys, damage):
    spec = make_spec("pgd-worst", {"steps": 2, "eps": "64/255"})
    before = step(config, spec, range(8))
    assert before["fooled"]
    assert step(config, spec, range(8))["started_at"] == before["started_at"]
    path = Path(config.out, before["images"])
    whole = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        os.remove(path)
        if damage == "directory":
            path.mkdir()
    capsys.readouterr()
    after = step(config, spec, range(8))
    assert "is missing or damaged and is computed again" in capsys.readouterr().err
    assert after["started_at"] != before["started_at"]
    assert path.read_bytes() == whole
    assert after["images_sha256"] == before["images_sha256"]


def test_a_damaged_row_is_no_row(config):
    runner.run(config)
    path = row_file(config)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))
    assert read_row(path) is None
    told = []
    assert len(Results.load(config.out, tell=told.append)) == 0
    assert told == [f"skipped '{path}': not a whole results file."]

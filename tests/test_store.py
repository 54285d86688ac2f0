import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustbench_snn import store
from robustbench_snn.errors import UsageError
from robustbench_snn.row_files import sealed
from robustbench_snn.schema import COLUMNS, SAMPLES, SCHEMA_VERSION

KEY = "ab" * 32


def make_row(start=0, labels=(0, 1, 2), pred_adv=(0, 0, 0), **changes):
    n = len(labels)
    row = {
        "model": "m.d",
        "dataset": "d",
        "attack": "torchattacks:CW",
        "attack_params": "{}",
        "seed": 0,
        "start": start,
        "stop": start + n,
        "sample_ids": [f"test/{start + i}" for i in range(n)],
        "labels": list(labels),
        "pred_clean": list(labels),
        "pred_adv": list(pred_adv),
        "valid": [True] * n,
        "loss_clean": [0.5] * n,
        "loss_adv": [1.5] * n,
        "margin_clean": [1.0] * n,
        "margin_adv": [-1.0] * n,
        "linf": [0.03] * n,
        "n": n,
        "correct_clean": n,
        "correct_adv": sum(a == b for a, b in zip(labels, pred_adv, strict=True)),
        "flags": ["norm"],
        "status": "ok",
    }
    return row | changes


def test_chosen_rows_in_one_file(tmp_path):
    for i, start in enumerate((0, 3)):
        store.write_shard(tmp_path / "run", f"{i}" * 64, make_row(start, command="at ~/mine"))
    store.write_shard(tmp_path / "run", "2" * 64, make_row(dataset="e"))
    found = store.Results.load(tmp_path / "run")
    assert found.write(tmp_path / "kept" / "rows.parquet", {"0" * 64, "1" * 64}).is_file()
    kept = store.Results.load(tmp_path / "kept").frame()
    assert kept["start"].tolist() == [0, 3]
    assert kept["dataset"].tolist() == ["d", "d"]
    assert kept["command"].isna().all()
    again = store.Results.load(tmp_path / "kept").samples()
    assert again["sample_ids"].tolist() == [f"test/{i}" for i in range(6)]


def test_round_trip(tmp_path):
    path = store.write_shard(tmp_path, KEY, make_row())
    assert path.relative_to(tmp_path).parts[:3] == ("m.d", "d", "torchattacks-CW")
    assert store.shard_state(path, KEY) == "ok"
    frame = store.Results.load(tmp_path).frame()
    assert list(frame.columns) == list(COLUMNS)
    (found,) = frame.to_dict("records")
    for name, value in make_row().items():
        stored = found[name]
        if isinstance(value, list):
            stored = stored.tolist()
            if isinstance(value[0], float):
                stored = [round(item, 6) for item in stored]
        assert stored == value, name
    assert found["key"] == KEY
    assert found["schema_version"] == SCHEMA_VERSION


def test_unknown_column_is_a_defect(tmp_path):
    with pytest.raises(KeyError, match="colour"):
        store.write_shard(tmp_path, KEY, make_row(colour="red"))


def test_a_write_that_dies_leaves_nothing(tmp_path, monkeypatch):
    def die(source, target):
        raise OSError("disk gone")

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(OSError, match="disk gone"):
        store.write_shard(tmp_path, KEY, make_row())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_write_replaces_the_whole_file(tmp_path):
    store.write_shard(tmp_path, KEY, make_row(status="failed", error="boom"))
    path = store.write_shard(tmp_path, KEY, make_row())
    assert store.shard_state(path, KEY) == "ok"
    assert len(store.Results.load(tmp_path)) == 1


def test_states(tmp_path):
    path = store.shard_path(tmp_path, make_row() | {"key": KEY})
    assert store.shard_state(path, KEY) == "missing"
    store.write_shard(tmp_path, KEY, make_row(status="failed"))
    assert store.shard_state(path, KEY) == "failed"
    assert store.shard_state(path, "cd" * 32) == "unreadable"
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"<html>no</html>"):
        path.write_bytes(broken)
        assert store.shard_state(path, KEY) == "unreadable"


def test_broken_and_foreign_files_are_noted_and_skipped(tmp_path):
    store.write_shard(tmp_path, KEY, make_row())
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / ".m.parquet.host-1.tmp").write_bytes(b"PAR1")
    results = store.Results.load(tmp_path)
    assert len(results) == 1
    assert sorted(note.split("'")[1].rpartition("/")[2] for note in results.notes) == [
        "foreign.parquet",
        "torn.parquet",
    ]


def rewrite(path, name, column):
    table = pq.read_table(path)
    if name in table.column_names:
        table = table.drop([name])
    path.write_bytes(sealed(table.append_column(name, column)))


def test_newer_columns_are_kept_and_newer_schema_refused(tmp_path):
    store.write_shard(tmp_path, KEY, make_row())
    newer = store.write_shard(tmp_path, "cd" * 32, make_row(start=3))
    rewrite(newer, "energy", pa.array([1.5]))
    frame = store.Results.load(tmp_path).frame()
    assert frame["energy"].dropna().tolist() == [1.5]
    rewrite(newer, "schema_version", pa.array([SCHEMA_VERSION + 1]))
    with pytest.raises(UsageError, match="upgrade robustbench_snn"):
        store.Results.load(tmp_path)


def test_missing_folder():
    with pytest.raises(UsageError, match="does not exist"):
        store.Results.load("no/such/folder")


def test_selection_by_key(tmp_path):
    store.write_shard(tmp_path, KEY, make_row())
    store.write_shard(tmp_path, "cd" * 32, make_row(start=3))
    assert store.Results.load(tmp_path, [KEY]).frame()["key"].tolist() == [KEY]


def test_samples_are_unique_and_know_their_outcome(tmp_path):
    store.write_shard(tmp_path, KEY, make_row())
    overlapping = make_row(start=1, labels=(1, 2, 3), pred_adv=(0, 0, 3))
    store.write_shard(tmp_path, "cd" * 32, overlapping)
    store.write_shard(tmp_path, "ef" * 32, make_row(start=50, status="failed", n=3))
    samples = store.Results.load(tmp_path).samples()
    assert samples["sample_ids"].tolist() == ["test/0", "test/1", "test/2", "test/3"]
    assert samples["correct_adv"].tolist() == [True, False, False, True]
    assert samples["correct_clean"].all()


def test_failed_rows_stand_apart(tmp_path):
    lists = dict.fromkeys(SAMPLES)
    store.write_shard(tmp_path, KEY, make_row(status="failed", error="boom") | lists)
    results = store.Results.load(tmp_path)
    assert len(results.frame()) == 0
    assert len(results.samples()) == 0
    assert results.failed()["error"].tolist() == ["boom"]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written to"):
        store.check_writable(tmp_path / "file" / "results")
    store.check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []

import shlex

import pytest

from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.config import CLEAN, RunConfig, canonical_json
from robustbench_snn.options import read_arguments
from robustbench_snn.report.screen import print_table
from robustbench_snn.report.summary import UNTRAINED, caption, describe, lines, next_command
from robustbench_snn.report.tables import format_accuracy

PGD = make_spec("pgd", {"steps": 10})


def row(spec=PGD, model="m.d", n=100, clean=90, robust=30, **changes):
    return {
        "model": model,
        "attack": spec.name,
        "attack_params": canonical_json(dict(spec.params)),
        "status": "ok",
        "n": n,
        "correct_clean": clean,
        "correct_adv": robust,
        "flags": [],
        "dataset_source": "embedded",
        "dataset_revision": "r1",
        "surrogate": "sigmoid(alpha=4)",
        "clamp": "[0, 1]",
        "ssa_proj_lif": "per_sample",
        "stop": 200,
    } | changes


def test_shards_add_up():
    (line,) = lines([row(flags=["zero-grad"]), row(n=50, clean=40, robust=5, flags=["norm"])])
    assert line.record() == {
        "model": "m.d",
        "attack": "pgd ε=8/255 px, step=2/255, steps=10",
        "n": "150",
        "clean % [95 % CI]": format_accuracy(130, 150),
        "robust % [95 % CI]": format_accuracy(35, 150),
        "agreement": "",
        "flags": "zero-grad, norm",
    }


def test_failed_shards_are_counted_and_not_averaged():
    failed = {"status": "failed", "n": 100, "correct_clean": None, "correct_adv": None}
    (line,) = lines([row(), row(**failed)])
    assert (line.n, line.clean) == (100, 90)
    assert line.record()["flags"] == "1 failed shard"
    (line,) = lines([row(**failed), row(**failed)])
    record = line.record()
    assert (record["n"], record["clean % [95 % CI]"]) == ("0", "")
    assert record["flags"] == "2 failed shards"


def test_clean_rows_claim_no_robustness():
    (line,) = lines([row(CLEAN, robust=90)])
    assert line.record()["robust % [95 % CI]"] == ""


def test_untrained_numbers_are_named_so():
    (line,) = lines([row(flags=["untrained"])])
    assert line.record()["flags"] == UNTRAINED


def test_models_and_attacks_keep_their_order():
    other = make_spec("pgd", {"steps": 5})
    found = lines([row(model="b"), row(other, model="b"), row(model="a"), row(model="b")])
    assert [(line.model, line.attack) for line in found] == [("b", PGD), ("b", other), ("a", PGD)]


def test_describe():
    assert describe(CLEAN) == "clean"
    assert describe(make_spec("fgsm", {"eps": "0.3"})) == "fgsm ε=0.3 px"
    still = make_spec("pgd", {"random_start": "off"})
    assert describe(still).endswith("steps=10, no random start")


def test_caption_says_what_the_numbers_are():
    text = caption(RunConfig(("m.d",), (PGD,), seed=3), [row(), row(dataset_revision="r2")])
    for part in (
        "digit-scenes (embedded, revision r1, r2)",
        "test split, first 200 samples",
        "sigmoid(alpha=4)",
        "pixel units of images in [0, 1]",
        "clamped to [0, 1]",
        "seed 3",
        "ssa_proj_lif per_sample",
    ):
        assert part in text


@pytest.mark.parametrize("spec", [CLEAN, PGD, make_spec("pgd", {"steps": 50})])
def test_the_command_suggested_can_be_typed(spec):
    config = RunConfig(("m.d",), (spec,), n=64, data_dir="a folder", seed=2)
    words = shlex.split(next_command(config, ["m.*"]))
    assert words[:3] == ["python", "-m", "robustbench_snn.run"]
    settings = read_arguments(words[3:]).settings
    assert settings["models"] == ["m.*"]
    assert (settings["n"], settings["seed"], settings["data_dir"]) == (64, 2, "a folder")
    assert {name for name, _ in settings["attack"]} == {"pgd"}


def test_the_printed_table_hides_empty_columns(capsys):
    config = RunConfig(("m.d",), (PGD,))
    print_table(lines([row()]), config, "the caption")
    text = capsys.readouterr().out
    assert "flags" not in text
    assert text.endswith("the caption\n")
    print_table(lines([row(CLEAN, flags=["untrained"])]), config, "the caption")
    text = capsys.readouterr().out
    assert "robust" not in text
    assert UNTRAINED in text


def test_strong_attacks_show_what_tells_them_apart():
    spec = make_spec("apgd", {"loss": "dlr", "estimator": "atan:4", "restarts": 2})
    text = describe(spec)
    for part in ("ε=8/255 px", "steps=100", "loss=dlr", "estimator=atan:alpha=4", "restarts=2"):
        assert part in text
    assert "norm" not in text
    assert "queries=50" in describe(make_spec("square", {"queries": 50, "norm": "l2"}))
    assert "norm=l2" in describe(make_spec("square", {"norm": "l2"}))


def test_after_a_curve_of_pgd_the_worst_case_is_next():
    specs = tuple(make_spec("pgd", {"eps": eps, "steps": 50}) for eps in ("4/255", "8/255"))
    assert next_command(RunConfig(("m",), specs)).endswith("--suite reliable")

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from robustbench_snn.card import Checkpoint, ModelCard, Preprocess, Reported
from robustbench_snn.catalogue import MODELS, Entry, model_card
from robustbench_snn.errors import UsageError
from robustbench_snn.options import read_arguments
from robustbench_snn.presets import to_toml
from robustbench_snn.registry import Registry
from robustbench_snn.report.summary import UNTRAINED
from robustbench_snn.resolve import choose_models, resolve
from robustbench_snn.run import main

ROOT = Path(__file__).resolve().parent.parent


def resolved(*words):
    return resolve(read_arguments(words).settings)[0]


BAD = [
    ("--model qkformr*", "unknown model 'qkformr*'"),
    ("--model qkformer-tiny.digit-scene", "did you mean 'qkformer-tiny.digit-scenes'"),
    ("--dataset digit-scene", "did you mean 'digit-scenes'"),
    ("--dataset cifar10 --model qkformer-tiny.digit-scenes", "would mean nothing"),
    ("--model sdt-8*", "no model in the catalogue fits 'sdt-8*' and classifies 'digit-scenes'"),
    ("--model qkformer-tiny.digit-scenes --model qkformer-4-384.cifar10", "different data sets"),
    ("--attack pgdd", "did you mean 'pgd'"),
    ("--attack fgsm --steps 10", "takes a single step"),
    ("--attack clean --eps 0.1", "measures clean accuracy"),
    ("--attack pgd --eps banana", "'banana' is not a number"),
    ("--attack pgd --eps 8", "8 grey levels are written 8/255"),
    ("--attack pgd --eps -0.1", "outside [0, 1]"),
    ("--attack pgd --steps 0", "at least 1"),
    ("--attack pgd --steps 2.5", "not a whole number"),
    ("--attack pgd --attack-arg kappa=1", "has no option 'kappa'"),
    ("--attack pgd --attack-arg steps", "not of the form KEY=VALUE"),
    ("--attack pgd --stepz 10", "unknown option '--stepz': did you mean '--steps'"),
    ("--n 0", "--n '0' is not a whole number of at least 1"),
    ("--n -5", "--n"),
    ("--n banana", "'banana' is not a number"),
    ("--n 1001", "more samples than digit-scenes has"),
    ("--batch-size 0", "--batch-size '0'"),
    ("--seed -1", "at least 0"),
    ("--split dev", "has no split 'dev'"),
    ("--device tpu", "device 'tpu' is unknown"),
    ("--device cuda:99", "CUDA devices"),
    ("--weights w.safetensors", "belongs to exactly one model"),
    ("--model-arg T", "not of the form KEY=VALUE"),
    ("--preset no-such.toml", "cannot be read"),
    ("--plugin no-such.py", "no-such.py"),
    ("--out /dev/null/results", "cannot be written to"),
    ("--n", "expected one argument"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_one_sentence_and_code_2(tmp_path, capsys, words, message):
    out = [] if "--out" in words else ["--out", str(tmp_path)]
    assert main([*words.split(), *out]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def in_a_process(*words):
    return subprocess.run(
        [sys.executable, "-m", "robustbench_snn.run", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_bad_input_in_a_process_of_its_own(tmp_path):
    done = in_a_process("--model", "no-such-model", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_default_run_is_each_family_undefended_and_trained_adversarially():
    done = in_a_process("--attack", "pgd", "--steps", "10", "--print-config")
    found = tomllib.loads(done.stdout)
    families = [name.partition("-")[0] for name in found["models"]]
    assert sorted(families) == ["qkformer"] * 2 + ["sdt"] * 2 + ["spiliformer"] * 2
    assert sum("-at8." in name for name in found["models"]) == 3
    assert (found["dataset"], found["split"]) == ("digit-scenes", "test")
    (attack,) = found["attack"]
    assert attack == {
        "name": "pgd",
        "eps": "8/255",
        "step_size": "2/255",
        "steps": 10,
        "random_start": True,
    }


def test_options_go_to_the_attacks_that_have_them():
    config = resolved(
        "--attack", "clean", "--attack", "fgsm", "--attack", "pgd", "--eps", "2/255", "--steps", "5"
    )
    assert [spec.label() for spec in config.attacks] == [
        "clean",
        "fgsm eps=2/255",
        "pgd eps=2/255 step_size=2/255 steps=5 random_start=on",
    ]


def test_lists_of_values_make_several_attacks():
    config = resolved("--attack", "fgsm", "--attack", "pgd", "--eps", "0.1, 0.2", "--steps", "5,10")
    assert [
        (spec.name, spec.params["eps"], spec.params.get("steps")) for spec in config.attacks
    ] == [
        ("fgsm", 0.1, None),
        ("fgsm", 0.2, None),
        ("pgd", 0.1, 5),
        ("pgd", 0.1, 10),
        ("pgd", 0.2, 5),
        ("pgd", 0.2, 10),
    ]


def test_a_model_named_alone_brings_its_data_set():
    config = resolved("--model", "qkformer-4-384.cifar10")
    assert (config.models, config.dataset) == (("qkformer-4-384.cifar10",), "cifar10")


@pytest.fixture
def small_catalogue(monkeypatch):
    models = Registry("model")
    for name, weights in [("a-1", "package:a"), ("a-2", None), ("b-1", "package:b"), ("c-1", None)]:
        checkpoint = Checkpoint(weights) if weights else None
        card = ModelCard(name, "digit-scenes", 10, (3, 32, 32), 1, checkpoint=checkpoint)
        models.add(name, Entry(card, object))
    monkeypatch.setattr("robustbench_snn.catalogue.MODELS", models)
    monkeypatch.setattr("robustbench_snn.resolve.MODELS", models)


@pytest.mark.parametrize(
    ("patterns", "names", "notes"),
    [
        ([], ["a-1", "b-1"], 0),
        (["all"], ["a-1", "b-1"], 0),
        (["a-*"], ["a-1"], 0),
        (["a-2", "a-*"], ["a-2", "a-1"], 0),
        (["c-*"], ["c-1"], 1),
        (["b-1", "all", "b-1"], ["b-1", "a-1"], 0),
    ],
)
@pytest.mark.usefixtures("small_catalogue")
def test_patterns_prefer_trained_models(patterns, names, notes):
    found, said = choose_models(patterns, "digit-scenes", own_weights=False)
    assert (found, len(said)) == (names, notes)
    assert all("their numbers are not results" in note for note in said)


def test_all_takes_the_smallest_shipped_model_of_each_family():
    found, said = choose_models([], "cifar10", own_weights=False)
    robust = [name for name in found if model_card(name).trained_eps]
    assert [name for name in found if name not in robust] == [
        "qkformer-small.cifar10",
        "sdt-small.cifar10",
        "spiliformer-small.cifar10",
    ]
    assert "sdt-small-at4.cifar10" in robust
    assert len({model_card(name).family for name in robust}) == len(robust)
    assert "other models run when they are named: qkformer-4-384.cifar10" in said[0]
    assert choose_models(["sdt-2-512*"], "cifar10", own_weights=False) == (
        ["sdt-2-512.cifar10"],
        [],
    )


def test_weights_are_fetched_only_where_none_are_shipped():
    found, said = choose_models([], "imagenet", own_weights=False)
    assert found == ["spiliformer-10-768-t1.imagenet"]
    assert "spiliformer-10-768.imagenet, spiliformer-10-768-288.imagenet" in said[0]
    assert choose_models(["spiliformer-10-768-288*"], "imagenet", own_weights=False) == (
        ["spiliformer-10-768-288.imagenet"],
        [],
    )
    with pytest.raises(UsageError, match="--weights belongs to exactly one model"):
        choose_models([], "imagenet", own_weights=True)


def test_published_checkpoints_say_where_they_come_from():
    expected = {
        "spiliformer-10-768.imagenet": ("T4_224", 224, 4, 256, 0.8582),
        "spiliformer-10-768-t1.imagenet": ("T1_224", 224, 1, 256, 0.8154),
        "spiliformer-10-768-288.imagenet": ("T4_288", 288, 4, 288, 0.8662),
        "spiliformer-10-768-384.imagenet": ("T4_384", 384, 4, 384, 0.8666),
    }
    cards = [model_card(name) for name in MODELS.names()]
    fetched = {card.name: card for card in cards if card.checkpoint and card.checkpoint.fetched}
    assert fetched.keys() == expected.keys()
    for name, (tag, side, steps, resize, accuracy) in expected.items():
        card = fetched[name]
        file = f"hub:KirinZheng/SpiLiFormer/checkpoint_spiliformer_{tag}.pth"
        assert card.checkpoint == Checkpoint(file, None, 830)
        assert card.input_shape == (3, side, side)
        assert card.time_steps == steps
        assert card.preprocess == Preprocess(resize, side, "bicubic")
        assert card.reported == Reported(accuracy, 50_000, "README of KirinZheng/SpiLiFormer")
        assert "authors" in card.note


def test_the_list_says_which_weights_are_shipped_fetched_or_missing(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert "spiliformer-10-768-384.imagenet: weights of the paper's authors, fetched" in text
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "| shipped " in lines["sdt-tiny.digit-scenes"]
    assert "| on first use (830 MB) | 85.8 reported |" in lines["spiliformer-10-768.imagenet"]
    assert "| untrained " in lines["qkformer-10-768.imagenet"]


@pytest.mark.usefixtures("small_catalogue")
def test_own_weights_belong_to_one_model():
    assert choose_models(["a-2"], "digit-scenes", own_weights=True) == (["a-2"], [])
    assert choose_models(["c-*"], "digit-scenes", own_weights=True) == (["c-1"], [])
    with pytest.raises(UsageError, match=r"2 were chosen \(a-1, b-1\)"):
        choose_models([], "digit-scenes", own_weights=True)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--attack", "clean", "--n", "7", "--seed", "3", "--batch-size", "5", "--device", "cpu"),
        ("--attack", "fgsm", "--attack", "pgd", "--eps", "0.05,1/255", "--steps", "3,4"),
        ("--model", "qkformer-4-384.cifar10", "--model-arg", "ssa_proj_lif=official"),
        ("--attack", "torchattacks:CW", "--attack-arg", "steps=3", "--data-dir", "a b"),
    ],
)
def test_print_config_is_a_preset_of_itself(tmp_path, capsys, words):
    assert main([*words, "--print-config"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    assert resolved("--preset", str(path)) == resolved(*words)
    assert main(["--preset", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == text
    assert text == to_toml(resolved(*words))


def test_flags_overrule_the_preset(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('n = 9\nseed = 4\n[[attack]]\nname = "pgd"\nsteps = [5, 10]\n')
    config = resolved("--preset", str(path), "--n", "3", "--eps", "1/255")
    assert (config.n, config.seed) == (3, 4)
    assert [(spec.params["steps"], spec.params["eps"]) for spec in config.attacks] == [
        (5, 1 / 255),
        (10, 1 / 255),
    ]
    config = resolved("--preset", str(path), "--attack", "fgsm")
    assert [spec.name for spec in config.attacks] == ["fgsm"]


def help_text(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_shows_the_options_of_the_attack_chosen(capsys):
    pgd, fgsm = help_text(capsys, "--attack", "pgd"), help_text(capsys, "--attack", "fgsm")
    assert "--steps" in pgd
    assert "options of pgd" in pgd
    assert "--steps" not in fgsm.partition("examples:")[0]
    assert "--eps" in fgsm
    bridge = help_text(capsys, "--attack", "torchattacks:CW")
    assert "kappa" in bridge


def test_list_names_everything(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    for name in ("qkformer-4-384.cifar10", "digit-scenes", "fgsm", "pgd", "torchattacks:NAME"):
        assert name in text


def test_lists_fit_the_width_of_a_terminal(capsys):
    from robustbench_snn.explain.command import main as explain

    assert main(["--list"]) == 0
    assert explain(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    # Whatever is folded stays whole.
    text = " ".join(" ".join(lines).replace("|", " ").split())
    assert "or val/<wnid>/*.JPEG" in text
    assert "- pgd: --eps 8/255 --step-size 2/255 --steps 10 --random-start on" in text


PLUGIN = Path(__file__).parent / "tiny_models.py"


def tiny_run(out, *words):
    words = ["--model", "tiny-a.test", "--n", "16", "--out", str(out), *words]
    return main(["--plugin", str(PLUGIN), "--device", "cpu", "--attack", "fgsm", *words])


def test_a_run_prints_its_table_and_where_the_results_are(tmp_path, capsys):
    assert tiny_run(tmp_path) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[2].startswith("| tiny-a.test | fgsm ε=8/255 px |  16 |")
    assert UNTRAINED in lines[2]
    assert f"results: {tmp_path} (1 file)" in lines
    assert lines[-1].startswith("next: python -m robustbench_snn.run --model tiny-a.test --n 16")
    first = next(line for line in captured.err.splitlines() if not line.startswith("plug-in: "))
    assert "n=16" in first
    assert tiny_run(tmp_path, "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[2] == lines[2]


def test_a_refused_model_is_code_4(tmp_path, capsys, monkeypatch):
    (tmp_path / "broken").touch()
    monkeypatch.setenv("TINY_BREAK", str(tmp_path / "broken"))
    assert tiny_run(tmp_path / "out") == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("refused: model 'tiny-a.test' cannot answer")


def test_failed_shards_are_code_3(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TINY_BREAK", str(tmp_path / "broken"))

    def breaks(*_):
        (tmp_path / "broken").touch()
        return []

    monkeypatch.setattr("robustbench_snn.runner.check_models", breaks)
    assert tiny_run(tmp_path / "out") == 3
    captured = capsys.readouterr()
    assert "1 failed shard" in captured.out
    assert "failed: tiny-a.test fgsm samples 0-15: RuntimeError: the test broke it" in captured.err
    assert "tries them again" in captured.err

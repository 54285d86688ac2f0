import dataclasses

import pytest

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.config import CLEAN, RunConfig, canonical_json, content_key, shards
from robustbench_snn.corruptions.names import parse_severities
from robustbench_snn.errors import UsageError
from robustbench_snn.presets import read_preset, to_toml


def test_canonical_json_ignores_order_and_refuses_nan():
    assert canonical_json({"b": 1, "a": [1.5]}) == canonical_json({"a": [1.5], "b": 1})
    assert canonical_json({"b": 1, "a": 2}) == '{"a":2,"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_content_key_is_sha256_of_the_json():
    # sha256 of the text {"a":1}
    assert content_key({"a": 1}) == (
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )
    assert content_key({"a": 1}) != content_key({"a": 2})


@pytest.mark.parametrize(("n", "size", "count"), [(1, 128, 1), (128, 128, 1), (1000, 128, 8)])
def test_shards_cover_every_sample_once(n, size, count):
    found = shards(n, size)
    assert [i for shard in found for i in range(shard.start, shard.stop)] == list(range(n))
    assert [shard.index for shard in found] == list(range(count))
    assert {shard.count for shard in found} == {count}
    assert max(map(len, found)) <= size


def full_config():
    return RunConfig(
        models=("a.digit-scenes", "b.digit-scenes"),
        attacks=(
            CLEAN,
            make_spec("pgd", {"eps": "8/255", "steps": "5"}),
            make_spec("fgsm", {"eps": "0.3"}),
            AttackSpec("torchattacks:CW", {"c": 1, "lr": 1e-06, "mode": 'a "quoted" \\ text'}),
        ),
        data_dir="some folder/é",
        n=64,
        seed=3,
        plugins=("one.py", "two.py"),
        model_args={"T": 2, "ssa_proj_lif": "official", "odd key": True},
        corruptions=("fog", "snow"),
        severities=(1, 3),
        corruptions_dir="CIFAR-10-C",
        corruption_preset="cifar",
        frost_dir="textures",
        executor="ray",
        workers=3,
        ray_address="local",
        shard="1/4",
    )


def test_toml_holds_every_setting(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(to_toml(full_config()), encoding="utf-8")
    found = read_preset(path)
    config = full_config()
    assert tuple(found.pop("models")) == config.models
    assert tuple(found.pop("plugins")) == config.plugins
    assert found.pop("model_args") == config.model_args
    assert tuple(found.pop("corruptions")) == config.corruptions
    assert tuple(parse_severities(found.pop("severity"))) == config.severities
    tables = found.pop("attack")
    assert [name for name, _ in tables] == ["clean", "pgd", "fgsm", "torchattacks:CW"]
    assert make_spec("pgd", tables[1][1]) == config.attacks[1]
    assert make_spec("fgsm", tables[2][1]) == config.attacks[2]
    assert tables[3][1] == config.attacks[3].params
    assert {key: getattr(config, key) for key in found} == found
    absent = {field.name for field in dataclasses.fields(config)} - set(found)
    assert absent == {
        "models",
        "attacks",
        "keep_older",
        "plugins",
        "model_args",
        "weights",
        "corruptions",
        "severities",
    }


def test_lists_in_an_attack_table_are_all_combinations(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[[attack]]\nname = "pgd"\neps = [0.1, "8/255"]\nsteps = [5, 10]\n')
    assert read_preset(path)["attack"] == [
        ("pgd", {"eps": eps, "steps": steps}) for eps in (0.1, "8/255") for steps in (5, 10)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modles = ['a']", "unknown setting 'modles': did you mean 'models'"),
        ("models = 'a'", "'models' is 'a', but must be a list of texts"),
        ("n = '10'", "'n' is '10', but must be a whole number"),
        ("n = true", "must be a whole number"),
        ("dataset = 3", "must be a text"),
        ("attack = 'pgd'", "must be tables written"),
        ("[[attack]]\nsteps = 3", "has no name"),
        ("n = ", "not valid TOML"),
    ],
)
def test_bad_presets_are_one_sentence(tmp_path, text, message):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_preset(path)
    assert str(path) in str(caught.value)


def test_missing_preset():
    with pytest.raises(UsageError, match="cannot be read"):
        read_preset("no/such/file.toml")

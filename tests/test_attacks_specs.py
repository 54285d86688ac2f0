import json
import subprocess
import sys

import pytest

from robustbench_snn.attack_spec import AttackSpec, format_distance
from robustbench_snn.attacks import (
    ATTACKS,
    attack_type,
    budget,
    group,
    make_spec,
    parse_eps,
)
from robustbench_snn.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("0.5/255", 1 / 510),
        (" 0.5 / 255 ", 1 / 510),
        ("0.05", 0.05),
        (0.3, 0.3),
        ("0", 0.0),
        (1, 1.0),
    ],
)
def test_eps_is_read_from_fractions_and_numbers(text, value):
    assert parse_eps(text) == value


@pytest.mark.parametrize("text", ["banana", "8/0", "nan", "inf", "", "1/2/3", True])
def test_unreadable_eps_is_refused_with_both_spellings(text):
    with pytest.raises(UsageError, match=r"decimal|fraction"):
        parse_eps(text)


@pytest.mark.parametrize("text", ["-1/255", "8", "1.0001"])
def test_eps_outside_the_pixel_range_is_refused_with_the_unit(text):
    with pytest.raises(UsageError, match=r"pixel units of images whose values lie in \[0, 1\]"):
        parse_eps(text)


def test_grey_levels_are_recognised():
    with pytest.raises(UsageError, match="8 grey levels are written 8/255"):
        parse_eps("8")


def test_defaults_are_those_of_the_paper():
    assert make_spec("pgd").params == {
        "eps": 8 / 255,
        "step_size": 2 / 255,
        "steps": 10,
        "random_start": True,
    }
    assert make_spec("fgsm").params == {"eps": 8 / 255}


def test_an_option_the_attack_lacks_is_refused_with_the_reason_and_its_own():
    with pytest.raises(UsageError, match=r"'fgsm' has no option 'steps' because .*it has eps"):
        make_spec("fgsm", {"steps": "10"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": "0"}, "whole number of at least 1"),
        ({"steps": "2.5"}, "whole number of at least 1"),
        ({"step-size": "0"}, "moves nothing"),
        ({"random_start": "maybe"}, "neither on nor off"),
    ],
)
def test_unusable_values_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_spec("pgd", options)


def test_unknown_attack_suggests_a_near_one():
    with pytest.raises(UsageError, match="did you mean 'pgd'"):
        make_spec("pdg")


def test_text_and_numbers_give_the_same_identity():
    typed = make_spec("pgd", {"eps": "8/255", "random-start": "on", "steps": "30"})
    preset = make_spec("pgd", {"eps": 8 / 255, "random_start": True, "steps": 30})
    assert typed.json() == preset.json()
    assert len({typed, preset}) == 1
    assert json.loads(typed.json())["params"]["steps"] == 30


def test_json_does_not_depend_on_the_order_of_parameters():
    assert AttackSpec("a", {"x": 1, "b": 2}).json() == AttackSpec("a", {"b": 2, "x": 1}).json()


def test_label_speaks_in_grey_levels():
    assert make_spec("pgd").label() == "pgd eps=8/255 step_size=2/255 steps=10 random_start=on"
    assert [format_distance(v) for v in (0.0, 0.05, 0.3, 1.0, 2.0)] == [
        "0",
        "0.05",
        "0.3",
        "1",
        "2",
    ]


def test_groups_join_specs_that_differ_in_a_shared_parameter_only():
    pgd = [make_spec("pgd", {"steps": steps}) for steps in (5, 50, 5)]
    other = make_spec("pgd", {"steps": 5, "eps": "4/255"})
    fgsm = [make_spec("fgsm", {"eps": eps}) for eps in (0.05, 0.1)]
    assert group([pgd[0], fgsm[0], pgd[1], other, fgsm[1], pgd[2]]) == [pgd[:2], fgsm, [other]]


def test_budget_names_norm_and_bound():
    assert budget(make_spec("fgsm", {"eps": 0.1})) == ("linf", 0.1)


def test_every_option_has_a_flag_help_and_a_default_it_can_read():
    for name in ATTACKS.names():
        for option in attack_type(name).options():
            assert option.flag.startswith("--")
            assert "_" not in option.flag
            assert len(option.help) > 10
            assert option.parse(option.default, option.name) == option.default


def test_names_options_and_groups_need_no_torch():
    code = (
        "import sys; from robustbench_snn.attacks import group, make_spec;"
        "group([make_spec('pgd'), make_spec('fgsm')]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_transfer_source_is_identified_even_before_its_weights_are_fetched() -> None:
    from robustbench_snn.attacks.strong_specs import parse_source

    name = "spiliformer-10-768.imagenet"
    found = parse_source(name, "source")
    assert found == f"{name}@hub:KirinZheng/SpiLiFormer/checkpoint_spiliformer_T4_224.pth"
    assert parse_source(found, "source") == found
    assert parse_source("qkformer-10-768.imagenet", "source").endswith("@untrained")


@pytest.mark.parametrize("name", ["apgd", "pgd-worst", "square"])
def test_another_norm_brings_its_usual_distance(name):
    assert make_spec(name, {"norm": "l2"}).params["eps"] == 0.5
    assert make_spec(name, {"norm": "l2", "eps": "1"}).params["eps"] == 1.0
    assert make_spec(name, {"norm": "linf"}) == make_spec(name)
    (option,) = [o for o in attack_type(name).options() if o.name == "norm"]
    assert "eps is 0.5" in option.help


def test_steps_follow_the_usual_distance():
    assert make_spec("pgd-worst", {"norm": "l2"}).params["step_size"] == 0.125
    given = make_spec("pgd-worst", {"norm": "l2", "step_size": "0.1"}).params
    assert (given["eps"], given["step_size"]) == (0.5, 0.1)
    # torchattacks keeps its distance of linf too, whatever the norm.
    assert make_spec("torchattacks:APGD", {"norm": "L2"}).params["eps"] == 0.5
    with pytest.raises(UsageError, match=r"'l1' has no usual distance.* give eps"):
        make_spec("torchattacks:FAB", {"norm": "L1"})

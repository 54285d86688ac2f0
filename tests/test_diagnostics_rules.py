"""Every rule on outcomes made to pass it and to break it."""

import numpy as np
import pytest

from robustbench_snn.diagnostics import rules
from robustbench_snn.diagnostics.findings import TITLES, Finding, raised


def right(share, n=500):
    """bool [n], the first ``share`` of them True: outcomes of one order are nested."""
    return np.arange(n) < share * n


def status(finding):
    return finding.status


def test_d1_step_order():
    assert status(rules.step_order(right(0.5), right(0.3))) == "pass"
    assert status(rules.step_order(right(0.3), right(0.302))) == "pass"
    assert status(rules.step_order(right(0.3), right(0.4))) == "fail"


def test_d2_monotone_in_eps():
    falling = {1 / 255: right(0.9), 2 / 255: right(0.5), 4 / 255: right(0.1)}
    assert status(rules.monotone_in_eps(falling)) == "pass"
    rising = rules.monotone_in_eps(falling | {8 / 255: right(0.3)})
    assert rising.status == "fail"
    assert "rises from 4 to 8" in rising.figure


def test_d3_large_eps_allows_chance():
    limit = 0.1 + 3 * np.sqrt(0.1 * 0.9 / 500)
    assert status(rules.large_eps(right(limit - 0.01), 10)) == "pass"
    assert status(rules.large_eps(right(limit + 0.01), 10)) == "fail"


def test_d4_noise_floor():
    assert status(rules.noise_floor(right(0.9), right(0.2))) == "pass"
    assert status(rules.noise_floor(right(0.2), right(0.9))) == "fail"
    # Beaten on single samples only, whatever the accuracies.
    noise = right(0.9)
    noise[:10] = False
    assert status(rules.noise_floor(noise, right(0.2))) == "fail"


def test_d5_monotone_in_steps():
    assert status(rules.monotone_in_steps({10: right(0.3), 30: right(0.31)})) == "pass"
    assert status(rules.monotone_in_steps({10: right(0.3), 30: right(0.4)})) == "warn"


def test_d6_convergence():
    loss = np.full(500, 2.0, dtype=np.float32)
    same = rules.convergence(right(0.3), right(0.3), loss, loss)
    assert same.status == "pass"
    assert rules.convergence(right(0.3), right(0.28), loss, loss).status == "warn"
    assert rules.convergence(right(0.3), right(0.3), loss, loss * 1.05).status == "warn"


@pytest.mark.parametrize(("five", "expected"), [(0.3, "pass"), (0.28, "warn"), (0.2, "fail")])
def test_d7_restarts(five, expected):
    assert status(rules.restarts(right(0.3), right(five))) == expected


def test_d8_black_box():
    assert status(rules.black_box(right(0.6), right(0.3))) == "pass"
    assert status(rules.black_box(right(0.3), right(0.6))) == "fail"


def test_d9_transfer():
    assert status(rules.transfer([right(0.8), right(0.7)], right(0.3))) == "pass"
    assert status(rules.transfer([right(0.8), right(0.2)], right(0.3))) == "fail"
    assert status(rules.transfer([], right(0.3))) == "skipped"


def test_d12_surrogate_sensitivity():
    found = {"training": 0.3, "atan:alpha=2": 0.28, "ste": 0.9}
    fine = rules.surrogate_sensitivity(found, "training", 8 / 255)
    assert fine.status == "pass"
    assert "spread of 3: 62.0" in fine.figure
    found["atan:alpha=2"] = 0.1
    assert rules.surrogate_sensitivity(found, "training", 8 / 255).status == "warn"
    assert rules.surrogate_sensitivity({}, "training", 8 / 255).status == "skipped"
    for left, expected in ((0.08, "warn"), (0.04, "info")):
        lowered = rules.surrogate_sensitivity(found, "training", 4 / 255, left)
        assert lowered.status == expected
    assert "at the suite's eps the training surrogate leaves 4.0 %" in lowered.figure


def test_d14_loss_choice():
    assert status(rules.loss_choice(right(0.3), right(0.31))) == "pass"
    assert status(rules.loss_choice(right(0.3), right(0.2))) == "warn"


def test_d18_undefended():
    assert status(rules.undefended(right(0.0), False)) == "pass"
    assert status(rules.undefended(right(0.2), False)) == "warn"
    assert status(rules.undefended(right(0.2), True)) == "info"


def test_small_samples_are_not_accused_by_one_or_two():
    one = right(0.1, 30)
    two = one.copy()
    two[10:12] = True
    assert not rules.significant(two, one)
    two[10:14] = True
    assert rules.significant(two, one)


def test_flags_name_failures_first():
    findings = [Finding("D1", "warn", "", ""), Finding("D3", "fail", "", "")]
    assert raised([*findings, Finding("D5", "pass", "", "")]) == ["D3!", "D1"]


def test_the_papers_own_table_is_flagged():
    """SpiLiFormer, CIFAR-10: PGD-50 17.13 %, FGSM 0.3 54.5 %, PGD-10 25.7 %."""
    assert status(rules.undefended(right(0.1713, 10_000), False)) == "warn"
    assert status(rules.large_eps(right(0.545, 10_000), 10)) == "fail"


def test_every_diagnostic_is_documented():
    from pathlib import Path

    text = (Path(__file__).parent.parent / "docs" / "flags.md").read_text()
    assert list(TITLES) == [f"D{i}" for i in range(1, 22)]
    for id, title in TITLES.items():
        section = text.partition(f"## {id} ")[2].partition("\n## ")[0]
        assert section.startswith(title), id
        for word in ("Measured:", "Threshold:", "Cause:", "Remedy:"):
            assert word in section, (id, word)


def few(count, n=16):
    """bool [n], ``count`` of them True."""
    return np.arange(n) < count


def test_a_figure_beyond_its_threshold_by_chance_is_no_pass():
    loss = np.full(16, 2.0, dtype=np.float32)
    found = [
        # Two of 16 are 12.5 %, and the threshold says 1 %.
        rules.undefended(few(2), defended=False),
        rules.noise_floor(few(0), few(1)),
        rules.convergence(few(4), few(3), loss, loss),
        rules.restarts(few(4), few(3)),
        rules.loss_choice(few(4), few(2)),
    ]
    assert [f.status for f in found] == ["too few samples"] * len(found)
    assert raised(found) == []
    assert "12.5 %" in found[0].figure
    assert rules.undefended(few(3), defended=False).status == "warn"
    assert rules.undefended(few(0), defended=False).status == "pass"
    assert rules.undefended(few(2, 200), defended=False).status == "pass"
    assert rules.black_box(few(1) & ~few(1), few(1)).status == "fail"

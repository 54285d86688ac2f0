"""docs/flags.md says what the code asks: every threshold, and whether it warns or fails."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn.diagnostics import rules
from robustbench_snn.diagnostics.attacks import Probe, judged
from robustbench_snn.diagnostics.findings import TITLES
from robustbench_snn.suites.outcomes import Outcome

DOCS = (Path(__file__).parent.parent / "docs" / "flags.md").read_text()
N = 500


def right(share):
    return np.arange(N) < share * N


LOSS = np.full(N, 2.0, dtype=np.float32)
# Each rule on outcomes that break it.
BROKEN = {
    "D1": rules.step_order(right(0.1), right(0.5)),
    "D2": rules.monotone_in_eps({1 / 255: right(0.1), 2 / 255: right(0.5)}),
    "D4": rules.noise_floor(right(0.1), right(0.5)),
    "D5": rules.monotone_in_steps({10: right(0.1), 30: right(0.5)}),
    "D6": rules.convergence(right(0.5), right(0.1), LOSS, LOSS),
    "D7": rules.restarts(right(0.5), right(0.1)),
    "D8": rules.black_box(right(0.1), right(0.5)),
    "D9": rules.transfer([right(0.1)], right(0.5)),
    "D12": rules.surrogate_sensitivity({"training": 0.5, "ste": 0.1}, "training", 8 / 255),
    "D14": rules.loss_choice(right(0.5), right(0.1)),
    "D18": rules.undefended(right(0.5), defended=False),
}


def documented(id, word):
    section = DOCS.partition(f"## {id} ")[2].partition("\n## ")[0]
    return " ".join(section.partition(f"- {word}:")[2].partition("\n- ")[0].split())


@pytest.mark.parametrize("id", BROKEN)
def test_thresholds_and_verdicts_are_those_of_the_code(id):
    finding, said = BROKEN[id], documented(id, "Threshold")
    assert finding.id == id
    assert {"fail": "fail", "warn": "warning"}[finding.status] in said
    numbers = re.findall(r"\d+(?:\.\d+)?", finding.threshold)
    spelt = said.replace("two standard errors", "2 SE")
    assert all(
        re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", spelt) for number in numbers
    )


def test_large_eps_is_chance_and_three_standard_errors():
    finding = rules.large_eps(right(0.5), 10)
    assert finding.status == "fail"
    assert finding.threshold == f"<= {100 * (0.1 + 3 * (0.09 / N) ** 0.5):.1f} %"
    assert "1/K + 3 SE: fail" in documented("D3", "Threshold")


PROBE = Probe(8 / 255, 300, ("other",))


@pytest.fixture
def outcomes(monkeypatch):
    """Outcomes of every attack of the diagnostics on a network that falls to all but noise."""
    monkeypatch.setattr(Probe, "transfers", property(lambda _: []))
    ids = tuple(str(i) for i in range(N))

    def outcome(share):
        kept = right(share)
        return Outcome(ids, right(0.9), kept, LOSS, LOSS, 0.03, True, 10, 10, 1.0)

    free = {PROBE.nothing: 0.9, PROBE.noise: 0.8, PROBE.fgsm: 0.3, PROBE.square: 0.4}
    found = {spec: outcome(free.get(spec, 0.0)) for spec in PROBE.specs()}
    return found | {PROBE.specs()[0]: outcome(0.9)}


def judge(found):
    findings = judged(PROBE, found, 10, False, {"training": 0.1, "ste": 0.5}, 8 / 255)
    return {finding.id: finding for finding in findings}


def test_a_network_that_falls_to_every_attack_passes(outcomes):
    found = judge(outcomes)
    assert set(found) == {f"D{i}" for i in (*range(1, 10), 12, 14, 16, 18, 21)}
    assert {id for id, finding in found.items() if finding.status != "pass"} == {"D9"}
    assert found["D9"].status == "skipped"


def test_d16_sees_a_broken_bound_and_an_eps_0_that_changes_answers(outcomes):
    outside = {PROBE.fgsm: replace(outcomes[PROBE.fgsm], valid=False)}
    assert judge(outcomes | outside)["D16"].status == "fail"
    moved = {PROBE.nothing: replace(outcomes[PROBE.nothing], robust=right(0.898))}
    assert judge(outcomes | moved)["D16"].status == "fail"
    assert ": fail" in documented("D16", "Threshold")


def test_what_failed_is_skipped_not_passed(outcomes):
    for spec, id in ((PROBE.nothing, "D16"), (PROBE.square, "D8"), (PROBE.noise, "D4")):
        rest = {other: outcome for other, outcome in outcomes.items() if other != spec}
        finding = judge(rest)[id]
        assert finding.status == "skipped"
        assert "has failed" in finding.note


def test_every_section_is_whole():
    for id in TITLES:
        assert all(documented(id, word) for word in ("Measured", "Threshold", "Cause", "Remedy"))

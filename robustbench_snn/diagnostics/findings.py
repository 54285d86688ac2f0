"""What a diagnostic says: measured figure, threshold, verdict, cause and remedy; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["pass", "info", "warn", "fail", "too few samples", "skipped"]

# What raises a flag beside an accuracy.
RAISED: tuple[Status, ...] = ("warn", "fail")

TITLES = {
    "D1": "iterating helps",
    "D2": "accuracy falls with eps",
    "D3": "a large eps breaks everything",
    "D4": "noise does not beat the attack",
    "D5": "accuracy falls with steps",
    "D6": "converged",
    "D7": "restarts add little",
    "D8": "the black box adds nothing",
    "D9": "transfer does not beat white box",
    "D10": "gradients are not zero",
    "D11": "gradients are smooth",
    "D12": "the surrogate does not decide",
    "D13": "gradients point uphill",
    "D14": "the loss does not decide",
    "D15": "deterministic and batch-free",
    "D16": "budget and range kept",
    "D17": "the attack leaves the model alone",
    "D18": "undefended models break",
    "D19": "random encoders are averaged",
    "D20": "neurons are alive",
    "D21": "answers are finite",
}


@dataclass(frozen=True)
class Finding:
    """One diagnostic on one model.

    Attributes:
        id: ``D1`` to ``D21``.
        status: ``pass``, ``info`` (a figure without a verdict), ``warn``, ``fail``, ``too few
            samples`` (beyond the threshold by no more than chance) or ``skipped``.
        figure: what was measured, with n.
        threshold: what was asked of it.
        note: why it was skipped, or what makes the figure special.
    """

    id: str
    status: Status
    figure: str
    threshold: str
    note: str = ""

    @property
    def raised(self) -> bool:
        """Whether a reader must be told beside the accuracy."""
        return self.status in RAISED

    def record(self) -> dict[str, str]:
        """As plain text fields, the title included."""
        return {"id": self.id, "title": TITLES[self.id], **dict(asdict(self).items())}


def raised(findings: Sequence[Finding]) -> list[str]:
    """``D8!`` for failures and ``D12`` for warnings, worst first."""
    failed = [f"{finding.id}!" for finding in findings if finding.status == "fail"]
    return failed + [finding.id for finding in findings if finding.status == "warn"]


def skipped(id: str, threshold: str, why: str) -> Finding:
    """A diagnostic that could not be asked, and why."""
    return Finding(id, "skipped", "", threshold, why)

"""The deterministic judge: it applies each principle's `checks` and asks nobody, so its labels repeat to the last
bit.

It says what checks can say: a principle without checks gets no verdict at all, which is not a tie. It serves to try a
constitution without a model, to test the pipeline, and to label what is a matter of form.
"""

from __future__ import annotations

from constitutions.schema import Principle
from judges.questions import Question
from ratify.canonical import JsonValue, digest
from ratify.types import Completion, Prompt, Protocol, Verdict

CERTAINTY = 3.0
"""Log-odds of a reply that meets all checks of a principle (a probability of 0.95); minus this when it meets none."""


class RulesJudge:
    """Applies checks. Pairwise, a verdict is the difference between the two replies."""

    min_coverage = 0.0
    concurrency = 1000
    """Verdicts that share one commit to the store."""

    def __init__(self, protocol: Protocol = "pointwise", salt: str = "") -> None:
        self.protocol: Protocol = protocol
        self.identity: dict[str, JsonValue] = {
            "kind": "rules",
            "version": 1,
            "certainty": CERTAINTY,
            "protocol": protocol,
            "salt": salt,
        }
        self.fingerprint = digest(self.identity)

    def abstains(self, principle: Principle) -> bool:
        """Without checks there is nothing to say."""
        return not principle.checks

    def key(self, principle: Principle, _prompt: Prompt, first: Completion, second: Completion | None) -> str:
        """SHA-256 of the judge, the checks and the replies; checks do not look at the prompt."""
        seen = {"first": first.text, "second": second.text if second else None}
        checks = {"checks": principle.model_dump(mode="json", include={"checks"})["checks"]}
        return digest({"judge": self.fingerprint, "checks": checks, **seen})

    async def answer(self, question: Question) -> Verdict:
        """Apply the checks."""
        logit = log_odds(question.principle, question.first.text)
        if question.second is not None:
            logit -= log_odds(question.principle, question.second.text)
        return question.verdict(self.fingerprint, logit=logit, coverage=1.0)


def log_odds(principle: Principle, text: str) -> float:
    """`CERTAINTY` · (checks met − checks not met) / checks: how far a reply meets a principle."""
    met = sum(check.holds(text) for check in principle.checks)
    return CERTAINTY * (2 * met - len(principle.checks)) / len(principle.checks)

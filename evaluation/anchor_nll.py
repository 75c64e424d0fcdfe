"""How surprised each policy is by text that people wrote: the negative log-likelihood of the frozen anchor.

A policy that collapses forgets how people write long before its win rate falls. Each line of the anchor is scored as a
reply to one fixed request, under both policies by one engine; the unit that is resampled is the line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.intervals import STANDARD, EvidenceError, Resampling, ratio
from evaluation.ngram_figures import Compared
from evaluation.report import ScoredReply

REQUEST = "Write a text."
"""What every line of the anchor is scored as the reply to."""
MOST = 500
"""Lines that are scored, the first ones."""


def anchor_nll(scored: Sequence[ScoredReply], how: Resampling = STANDARD) -> Compared:
    """Nats per token under the reference (old) and the new policy, and their paired difference.

    Raises:
        EvidenceError: no line was scored, a log-probability is not finite, or the policies cut text differently.
    """
    if not scored:
        raise EvidenceError("no line of the anchor text was scored")
    new, old = (np.array([getattr(row, name) for row in scored]) for name in ("log_new", "log_reference"))
    broken = int(np.count_nonzero(~(np.isfinite(new) & np.isfinite(old))))
    if broken:
        raise EvidenceError(f"{broken} of {len(scored)} lines of the anchor have no finite log-probability")
    require_one_tokenizer(scored, "surprise at the anchor")
    tokens, lines = np.array([float(row.tokens) for row in scored]), [row.completion_id for row in scored]
    return Compared(
        ratio(-old, tokens, lines, how), ratio(-new, tokens, lines, how), ratio(old - new, tokens, lines, how)
    )


def require_one_tokenizer(scored: Sequence[ScoredReply], what: str) -> None:
    """Log-probabilities of other tokens cannot be compared.

    Raises:
        EvidenceError: a reply has another number of tokens under the reference.
    """
    apart = sum(row.reference_tokens not in (None, row.tokens) for row in scored)
    if apart:
        raise EvidenceError(f"{what}: {apart} of {len(scored)} texts are cut into other tokens by the reference")

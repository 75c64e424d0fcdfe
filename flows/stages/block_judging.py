"""Judging as many pairs as there are: asked as a stream, read back and added up block by block.

Memory holds one block of pairs (`pair_blocks.py`), what makes canaries and biases, and counts; so it hardly grows with
the number of pairs. What `judging.py` does for pairs that are all in memory, this does for the stage `label`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.context import RunContext
from flows.stages.canaries import (
    Canaries,
    Findings,
    calibrated_verdicts,
    examine_canaries,
    findings_metrics,
    mixed,
    write_canaries,
    write_findings,
)
from flows.stages.judging import DECIDED, ask, constitution_of, fair_biases, make_judge, money_spent
from flows.stages.pair_blocks import Block, Sheets
from judges.bias import bias_metrics
from judges.labelling import Tally
from judges.labels import Labelled, label_pairs
from judges.order_table import OrderTable
from judges.questions import Question, verdict_keys
from judges.statistics import OrderCounts
from ratify.types import Verdict
from ratify.verdict_store import VerdictStore


class BlockJudging:
    """One pass of the configured judge over the pairs of a round; `listen`, then `labels`, then `close`."""

    def __init__(self, context: RunContext, sheets: Sheets, *, log_path: Path) -> None:
        """`log_path` is where a managed server logs; what is known of the judge is written beside it."""
        self._context = context
        self._sheets = sheets
        self._log_path = log_path
        self._constitution = constitution_of(context)
        self._judge = make_judge(context)
        self._watch: Canaries | None = None
        self._findings: Findings | None = None
        self._tally = Tally.empty()
        self._orders, self._flips = OrderTable(sheets.prompts), OrderCounts()
        self._decided = 0

    def listen(self) -> None:
        """Have everything answered that is not stored, canaries among the pairs.

        Raises:
            BudgetError: the judge fails too often, or agrees with too few canaries.
        """
        context, store = self._context, self._context.verdict_store()
        self._watch = watch = write_canaries(context, self._constitution, self._judge)
        try:
            self._tally = asyncio.run(ask(context, self._questions, self._total, store, self._log_path))
            if watch:
                self._findings = examine_canaries(
                    context, watch, self._constitution, self._judge,
                    verdicts=self._stored(store, watch.sheet.questions), failures=self._tally.failures,
                )  # fmt: skip
        finally:
            store.close()

    def labels(self) -> Iterator[tuple[Block, Labelled]]:
        """Every block with its labels; what is read on the way tells of the judge's biases."""
        store, protocol = self._context.verdict_store(), self._judge.protocol
        try:
            for block, coverage, sheet in self._sheets:
                verdicts = self._stored(store, sheet.questions)
                self._orders.add(sheet, verdicts)
                if protocol == "pairwise":
                    self._flips.add(sheet.keys, verdicts)
                worth = calibrated_verdicts(self._context, verdicts, self._findings, self._judge, watched=True)
                found = label_pairs(
                    sheet, worth, self._tally.failures,
                    self._constitution, protocol, decided=coverage.decided,
                )  # fmt: skip
                self._decided += int(found.evidence.by_checks.sum())
                yield block, found
        finally:
            store.close()

    def close(self) -> dict[str, Any]:
        """Measure the judge on all pairs, write down what is known about it; the pass's figures by metric key.

        Raises:
            BudgetError: the judge goes by position.
        """
        context, statistics = self._context, self._tally.statistics
        biases = fair_biases(context, ((name, self._orders.columns(name)) for name in self._orders.principles))
        write_findings(self._log_path.parent, self._judge, biases, self._findings)
        metrics = statistics.metrics() | money_spent(context, statistics) | bias_metrics(biases)
        metrics |= findings_metrics(self._findings) | {DECIDED: self._decided}
        return metrics | (self._flips.statistics().metrics() if self._judge.protocol == "pairwise" else {})

    @property
    def _total(self) -> int:
        return self._sheets.questions + (len(self._watch.sheet.questions) if self._watch else 0)

    def _questions(self) -> Iterator[Question]:
        return mixed(self._sheets.all_questions(), self._sheets.questions, self._watch)

    def _stored(self, store: VerdictStore, questions: Mapping[str, Question]) -> dict[str, Verdict]:
        return store.get(verdict_keys(questions.values(), self._tally.failures))

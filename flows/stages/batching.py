"""Have questions judged by batch files: write what is missing, send it, and come back when it is answered.

The judge itself says what it wants to ask, by being asked everything: a request without an answer goes into the next
batch. When nothing is missing, the labelling engine runs as ever and is answered from disk. Only then are the batches
forgotten, so that a question that failed is asked afresh by the next run, as a live one is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flows.context import RunContext
from judges.labelling import Collection, collect_verdicts
from judges.questions import Judge, Question
from ratify.batch_api import BatchClient, BatchServer, NotAnsweredYet
from ratify.batch_files import RequestWriter
from ratify.client import ChatClient
from ratify.errors import BudgetError
from ratify.verdict_store import VerdictStore

FOLDER = "batches"
"""In the run's folder."""


async def collect_by_batch(
    context: RunContext, questions: Mapping[str, Question], store: VerdictStore, make: Callable[[ChatClient], Judge]
) -> Collection:
    """The verdicts of some questions.

    Raises:
        BatchPending: a batch is still running, and `judge.batch_wait` is off.
        BudgetError: more than `judge.failure_budget` of the verdicts failed; the others are stored.
        EndpointError: the server refuses a batch or cannot be reached.
    """
    section = context.config.judge
    assert section.base_url
    async with BatchClient(section, section.base_url, section.model, context.run.path / FOLDER) as client:
        judge = make(client)
        stored = store.get(questions)
        missing = [question for key, question in questions.items() if key not in stored]
        await _answer_all(context, missing, judge, client)
        with context.show("judging") as progress:
            # The answers are paid for, so all are stored before failures are counted.
            found = await collect_verdicts(questions, judge, store, failure_budget=1.0, progress=progress)
        for batch in client.folder.batches():
            if batch.name in client.touched:
                client.folder.discard(batch)
    _check_failures(found, section.failure_budget)
    return found


async def _answer_all(context: RunContext, questions: list[Question], judge: Judge, client: BatchClient) -> None:
    """Send batches and wait for them until every question can be answered from disk."""
    section = context.config.judge
    assert section.base_url
    async with BatchServer(section, section.base_url, client.folder) as server:
        while await _still_asked(questions, judge, client):
            with context.show("waiting for batches") as progress:
                await server.finish(
                    client.touched, wait=section.batch_wait, poll_s=section.batch_poll_s, on_wait=progress.update
                )
            client.load()


async def _still_asked(questions: list[Question], judge: Judge, client: BatchClient) -> bool:
    """Ask everything; is something not answered yet? What is in no batch is written as new ones."""
    waiting = False
    with RequestWriter(client.folder) as writer:
        client.note(writer)
        for question in questions:
            try:
                await judge.answer(question)
            except NotAnsweredYet:
                waiting = True
    client.note(None)
    client.touched.update(batch.name for batch in writer.batches)
    return waiting


def _check_failures(found: Collection, budget: float) -> None:
    failed, needed = found.statistics.failed, found.statistics.needed
    if failed > budget * needed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.statistics.failures.most_common())
        raise BudgetError(
            f"judging stopped: {failed} of {needed} verdicts failed ({failed / needed:.1%}; judge.failure_budget "
            f"allows {budget:.1%}): {kinds}; the other verdicts are stored, so mend the judge and run the same command "
            "again"
        )

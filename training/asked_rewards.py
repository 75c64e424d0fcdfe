"""Rewards that another process answers: a judge, or the checks of a constitution, asked over a Unix socket.

Training imports no judge. The process that launched the task listens on a socket in a folder that only its user can
open, so there is no port, no token, and nothing to reach from another machine. Of several workers the first one asks
and tells the others, so that all learn from the same answers and each question is asked once. Left out: what a question
means, its cache and its budget, which are the other side's.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from pydantic import ValidationError

from ratify.errors import TrainingError
from ratify.reward_questions import RewardAnswer, RewardQuestion, RewardRequest
from training.rewards import Rollout


class AskedRewards:
    """The line to the process that answers; opened with the first question, closed at the latest with the process."""

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        self._path = path
        self._accelerator = accelerator
        self._line: socket.SocketType | None = None

    def scores(self, reward: str, rollouts: Sequence[Rollout]) -> Sequence[float | None]:
        """A score for each completion, or None.

        Raises:
            TrainingError: the other side cannot answer, or is gone.
        """
        return self._ask(reward, [RewardQuestion(prompt_id=r.item.prompt_id, first=r.text) for r in rollouts])

    def probabilities(self, reward: str, pairs: Sequence[tuple[Rollout, Rollout]]) -> Sequence[float | None]:
        """P(first is better) of each pair, or None.

        Raises:
            TrainingError: the other side cannot answer, or is gone.
        """
        return self._ask(
            reward, [RewardQuestion(prompt_id=a.item.prompt_id, first=a.text, second=b.text) for a, b in pairs]
        )

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ask(self, reward: str, questions: Sequence[RewardQuestion]) -> Sequence[float | None]:
        told: list[RewardAnswer | None] = [None]
        if self._accelerator.is_main_process:
            # A fault is told to the other workers too: they would wait for ever for an answer that never comes.
            told = [self._answer(RewardRequest(reward=reward, questions=tuple(questions)))]
        if self._accelerator.num_processes > 1:
            broadcast_object_list(told, from_process=0)
        answer = told[0]
        assert answer is not None, "the first worker has answered or raised"
        if answer.fault:
            raise TrainingError(answer.fault)
        return answer.values

    def _answer(self, request: RewardRequest) -> RewardAnswer:
        try:
            line = self._opened()
            line.sendall(request.model_dump_json().encode() + b"\n")
            return RewardAnswer.model_validate_json(_line(line))
        except (OSError, ValidationError) as error:
            return RewardAnswer(fault=f"the process that answers for reward {request.reward} is gone: {error}")

    def _opened(self) -> socket.SocketType:
        if self._line is None:
            self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._line.connect(str(self._path))
        return self._line


def _line(connection: socket.SocketType) -> bytes:
    """Everything up to the next end of line; the other side sends one line for each of ours."""
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = connection.recv(2**16)
        if not part:
            raise ConnectionError("the connection was closed")
        parts.append(part)
    return b"".join(parts)

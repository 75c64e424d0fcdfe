"""A round's questions, judged in parts on a Ray cluster that runs already: where parts go, and what becomes of them.

The cluster is the user's (`ray start`); this joins it as a driver, hands each part to a free processor of some node,
and hands it out again where the node or its worker died, because a part may be repeated at any time. When the driver
ends, however it ends, Ray ends what its parts are doing. Left out: what a node does (`ray_node.py`), starting a
cluster, and servers on the nodes: judges are asked by `judge.base_url`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import uuid4

from flows.context import RunContext
from flows.stages.label_part import check_parts
from flows.stages.ray_node import NAMESPACE, Answer, Board, Order, inputs_of, judge_here
from ratify import errors
from ratify.config import resolved_json
from ratify.errors import ConfigError, RatifyError, SchedulerError
from ratify.lineage import ROOT
from ratify.progress import Progress
from ratify.safety import is_loopback, switch_telemetry_off

MOST_PARTS = 500
"""Each is a task run of one flow run."""
ATTEMPTS = 3
"""A part is given up when so many of its nodes or workers have died."""
ANSWER_S = 10.0
"""For a cluster's address to answer."""
LOOK_EVERY_S = 1.0
_STAY_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray replaces 127.0.0.1 by the machine's outer address, unless this is 0."""


_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What gRPC begins with, and empty settings; a server's own settings (frame type 4) are the answer. RFC 9113, 3.4."""


class RayParts:
    """The parts of one round on a cluster. `judge` may be called by many threads at once."""

    def __init__(self, ray: Any, context: RunContext, parts: int) -> None:
        """`ray` is the module, connected."""
        self.parts = parts
        self.said: deque[str] = deque()
        """Lines for a person, oldest first."""
        self._ray = ray
        self._remote = ray.remote(judge_here)
        self._config, self._inputs = resolved_json(context.config), inputs_of(context)
        self._round = context.round_number
        self._open: dict[int, Any] = {}
        self._guard = threading.Lock()
        self._stopped = False
        self._name = f"board-{uuid4().hex}"
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(_own_node(ray), soft=False)
        options = {"name": self._name, "namespace": NAMESPACE, "num_cpus": 0, "scheduling_strategy": here}
        self._board = ray.remote(Board).options(**options).remote()
        self._figures = (0, 0)

    def judge(self, part: int) -> Answer:
        """Have a part judged by some node; again by another where that died.

        Raises:
            RatifyError: what stopped the part, with the node's name; or it has lost `ATTEMPTS` nodes.
        """
        lost = self._ray.exceptions
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = Answer.model_validate_json(self._ray.get(self._begin(part, attempt)))
            except (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError) as error:
                if not self._stopped:
                    self._say(f"part {part} of {self.parts}: its worker or its node died ({type(error).__name__})")
            except lost.TaskCancelledError:
                break
            else:
                return self._ended(answer)
            finally:
                self._open.pop(part, None)
        if self._stopped:
            raise SchedulerError(f"part {part} of {self.parts} was stopped with the others")
        raise SchedulerError(
            f"part {part} of {self.parts} has lost {ATTEMPTS} workers or nodes of the Ray cluster; every answered "
            "verdict is stored, so look at the nodes' memory and run the same command again"
        )

    def _ended(self, answer: Answer) -> Answer:
        if answer.kind:
            raise fault_of(answer)
        self._say(
            f"part {answer.part} of {self.parts}: {answer.needed:,} verdicts on {answer.host} "
            f"(node {answer.node[:8]}), {answer.seconds:.1f} s"
        )
        return answer

    def stop(self) -> None:
        """End what the parts are doing."""
        with self._guard:
            self._stopped = True
            for reference in list(self._open.values()):
                self._ray.cancel(reference, force=True)

    def figures(self) -> tuple[int, int]:
        """Questions that are done, and how many there are, from what the begun parts have told."""
        try:
            told = self._ray.get(self._board.figures.remote(), timeout=LOOK_EVERY_S)
        except self._ray.exceptions.RayError:
            return self._figures
        if told:
            totals = sum(total for _, total in told)
            self._figures = sum(done for done, _ in told), round(totals * self.parts / len(told))
        return self._figures

    def _begin(self, part: int, attempt: int) -> Any:
        order = Order(
            config=self._config, folder=str(Path.cwd()), inputs=self._inputs, board=self._name,
            round_number=self._round, part=part, parts=self.parts,
        )  # fmt: skip
        with self._guard:
            if self._stopped:
                raise SchedulerError(f"part {part} of {self.parts} was stopped with the others")
            options = {"num_cpus": 1, "max_retries": 0, "scheduling_strategy": "SPREAD"}
            name = f"part {part} of {self.parts}, attempt {attempt}"
            self._open[part] = self._remote.options(name=name, **options).remote(order.model_dump_json())
            return self._open[part]

    def _say(self, line: str) -> None:
        self.said.append(line)


def fault_of(answer: Answer) -> RatifyError:
    """What stopped a part, as the class that it was there."""
    known = getattr(errors, answer.kind, RatifyError)
    kind = known if isinstance(known, type) and issubclass(known, RatifyError) else RatifyError
    return kind(f"on {answer.host} (node {answer.node[:8]}): {answer.message}")


def judge_all(context: RunContext, parts: RayParts, judge: Callable[[int], Answer]) -> list[Answer]:
    """Have every part judged at once by `judge`, and show how far they are; the first fault stops the others.

    Raises:
        RatifyError: what `judge` raised.
    """
    answers: list[Answer] = []
    with context.show("judging in parts") as progress, ThreadPoolExecutor(parts.parts) as pool:
        waiting = {pool.submit(copy_context().run, judge, part) for part in range(parts.parts)}
        try:
            while waiting:
                done, waiting = wait(waiting, LOOK_EVERY_S, FIRST_COMPLETED)
                _tell(progress, parts)
                answers += [each.result() for each in done]
                progress.update(*parts.figures(), f"{len(answers)} of {parts.parts} parts done")
        except BaseException:
            parts.stop()
            raise
        finally:
            _tell(progress, parts)
    return sorted(answers, key=lambda each: each.part)


def _tell(progress: Progress, parts: RayParts) -> None:
    while parts.said:
        progress.say(parts.said.popleft())


@contextmanager
def ray_parts(context: RunContext, parts: int, address: str) -> Iterator[RayParts]:
    """The parts of a round on the cluster at `address`, `HOST:PORT`.

    Raises:
        ConfigError: Ray is not installed, or the configuration cannot be judged on several nodes.
        SchedulerError: no cluster answers.
        StoreError: the candidates are not there.
    """
    if not 1 <= parts <= MOST_PARTS:
        raise ConfigError(f"{parts} parts are not between 1 and {MOST_PARTS}; each is a task run")
    check_parts(context)
    if context.config.judge.kind == "model" and not context.config.judge.base_url:
        raise ConfigError(
            "on Ray a judge is asked at servers that run already: set judge.base_url, or start `ratify label-part` on "
            "each machine, which starts a server there"
        )
    ray = _connected(address)
    try:
        alive = [node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]]
        check_store(context.config.store.url, alive)
        yield RayParts(ray, context, parts)
    finally:
        ray.shutdown()


def check_store(url: str | None, hosts: Iterable[str], here: str | None = None) -> None:
    """Refuse a verdict store that the nodes' machines cannot share.

    Args:
        url: As in `store.url`.
        hosts: The nodes' machines.
        here: This machine; by default its own name.

    Raises:
        ConfigError: the store is a SQLite file, and a node is another machine.
    """
    others = sorted(set(hosts) - {here or socket.gethostname()})
    if others and (url is None or url.startswith("sqlite")):
        raise ConfigError(
            f"the verdict store is a SQLite file, which {', '.join(others)} of the Ray cluster cannot share; set "
            "store.url to a PostgreSQL"
        )


def _connected(address: str) -> Any:
    host, port = _split(address)
    switch_telemetry_off()
    if is_loopback(host):
        os.environ.setdefault(_STAY_ON_LOOPBACK, "0")
    try:
        import ray
        import ray.util.scheduling_strategies
        from ray.job_config import JobConfig
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("ray", "msgpack"):
            raise
        raise ConfigError(
            "Ray is not installed; install the lines `ray` and `msgpack` of requirements/cpu.txt with "
            "`pip install --no-deps`, on every node"
        ) from None
    with _same_signals():
        try:
            _knock(host, port)
            # The workers import this checkout's code, by name, instead of being sent it.
            job = JobConfig(code_search_path=[str(ROOT)])
            ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR", job_config=job)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            reason = (str(error) or type(error).__name__).strip().splitlines()[0]
            raise SchedulerError(
                f"no Ray cluster answers at {address}: {reason}; start one with `ray start` (docs/machines.md), with "
                "this machine as a node, or give --ray HOST:PORT"
            ) from None
    return ray


def _split(address: str) -> tuple[str, int]:
    """Host and port."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        raise ConfigError(f"--ray {address!r} is not of the form HOST:PORT, which `ray start` prints")
    return host.strip("[]"), int(port)


def _knock(host: str, port: int) -> None:
    """Whether a server that speaks gRPC is there; Ray itself would wait for minutes and fill the terminal."""
    with socket.create_connection((host, port), ANSWER_S) as line:
        line.sendall(_HTTP2)
        if line.recv(4, socket.MSG_WAITALL)[3:] != b"\x04":
            raise ValueError("what listens there is not Ray")


@contextmanager
def _same_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _own_node(ray: Any) -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node

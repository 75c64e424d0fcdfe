"""Where a model answers: a server that is there already, or a vLLM server that this run starts and stops.

`start` returns at once, so that two servers warm up together or beside other work; `wait_ready` waits for health
while watching the process; `serve` is both with a stop at the end. A server listens on the loopback address unless
told otherwise, sends no telemetry, and dies with this process however that ends (see `generation.vllm_host`).
Left out: routing over several servers, and restarts: a server that dies fails its stage, which resumes from its
shards.
"""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from generation.engine_faults import fault, port_taken
from generation.host import EngineHost, host_for
from generation.model_folder import check_model
from ratify import host_lock
from ratify.client import ChatClient
from ratify.errors import EndpointError, EngineError
from ratify.sections import EndpointSection, EngineSection

POLL_S = 0.1
NOTICE_S = 1.0
GIB = 1 << 30
OnWait = Callable[[float], None]
"""Called with the seconds waited so far."""


class Served(NamedTuple):
    """A server that answers."""

    base_url: str
    model: str


class ManagedServer:
    """A vLLM server that is starting or running; `start` makes one."""

    def __init__(self, host: EngineHost, endpoint: EndpointSection, *, port: int, section: str, log_path: Path) -> None:
        self.served = Served(f"http://{endpoint.engine.host}:{port}/v1", endpoint.model)
        self._host = host
        self._timeout_s = endpoint.engine.start_timeout_s
        self._port = port
        self._section = section
        self._log_path = log_path
        self._log_start = log_path.stat().st_size
        self._started = time.monotonic()
        self._number = host.start(server_args(endpoint, port), log=log_path, threads=endpoint.engine.threads)

    async def wait_ready(self, on_wait: OnWait | None = None) -> Served:
        """Wait until the server is healthy.

        Raises:
            EngineError: it ended, or was not healthy in time; it is stopped then.
        """
        while not await asyncio.to_thread(_healthy, self.served.base_url):
            waited = time.monotonic() - self._started
            self.check_alive()
            if waited > self._timeout_s:
                await asyncio.to_thread(self.stop)
                raise EngineError(
                    f"the vLLM server of {self._section} was not ready after {self._timeout_s:.0f} s; raise "
                    f"{self._section}.engine.start_timeout_s or see its log: {self._log_path}"
                )
            if on_wait:
                on_wait(waited)
            await asyncio.sleep(POLL_S)
        # Somebody else may have taken the port first and answer there.
        self.check_alive()
        return self.served

    def check_alive(self) -> None:
        """Raise what the log says if the server has ended on its own.

        Raises:
            EngineError: it has.
        """
        if self._host.exited(self._number):
            raise self._fault()

    def stop(self) -> None:
        """Stop the server with its whole process group; harmless when it has ended."""
        self._host.stop(self._number)

    def _fault(self) -> EngineError:
        if self._host.unusable == "missing":
            return EngineError(
                f"{self._host.python} has no vLLM: install it there (see requirements/) or set "
                f"{self._section}.engine.python to an interpreter that has it"
            )
        if not self._host.alive:
            _append(self._log_path, self._host.log_text)
            if self._host.unusable:
                return EngineError(
                    f"vLLM cannot be imported by {self._host.python} ({self._host.unusable.splitlines()[0][:200]}); "
                    f"see {self._log_path}"
                )
        with self._log_path.open("rb") as handle:
            handle.seek(self._log_start)
            log = handle.read().decode(errors="replace")
        return fault(log, log_path=self._log_path, section=self._section, port=self._port)


def warm_up(engine: EngineSection) -> None:
    """Begin importing vLLM in the background, so that the first server starts sooner; free when done already."""
    host_for(engine)


def start(endpoint: EndpointSection, *, log_path: Path, section: str = "policy") -> ManagedServer:
    """Start a vLLM server for `endpoint.model` and return at once.

    Args:
        endpoint: its `base_url` is not looked at.
        log_path: the server's log is appended there.
        section: `policy` or `judge`: whose settings the messages name.

    Raises:
        InputError: the model folder cannot be used.
        EngineError: the port is taken or the interpreter cannot be run.
    """
    engine = endpoint.engine
    check_model(endpoint.model, section=section, template_given=_has_flag(engine, "--chat-template"))
    port = _port(engine, section)
    log_path = log_path.absolute()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    _append(log_path, "")
    return ManagedServer(host_for(engine), endpoint, port=port, section=section, log_path=log_path)


@asynccontextmanager
async def serve(
    endpoint: EndpointSection, *, log_path: Path, section: str = "policy", on_wait: OnWait | None = None
) -> AsyncIterator[Served]:
    """Yield where the endpoint's model answers; a managed server is stopped at the end.

    Raises:
        EndpointError: the server at `base_url` is down, refuses the key or does not serve the model.
        InputError, EngineError: as `start` and `wait_ready`.
    """
    if endpoint.base_url:
        async with ChatClient(endpoint, endpoint.base_url, endpoint.model) as client:
            await client.check()
        yield Served(endpoint.base_url, endpoint.model)
        return
    await _take_turn(f"the {section}'s vLLM", on_wait)
    try:
        async with _started(endpoint, log_path=log_path, section=section, on_wait=on_wait) as served:
            yield served
    finally:
        host_lock.give_back()


async def _take_turn(what: str, on_wait: OnWait | None) -> None:
    """Wait for this machine's GPU, where it has one."""
    started = time.monotonic()
    while host_lock.try_take(what) is not None:
        if on_wait:
            on_wait(time.monotonic() - started)
        await asyncio.sleep(host_lock.POLL_S)


@asynccontextmanager
async def _started(
    endpoint: EndpointSection, *, log_path: Path, section: str, on_wait: OnWait | None
) -> AsyncIterator[Served]:
    server = await asyncio.to_thread(start, endpoint, log_path=log_path, section=section)
    try:
        yield await server.wait_ready(on_wait)
    except EndpointError:
        # If the server has died, its log explains the failed requests better; its end is noticed with a delay.
        await asyncio.sleep(NOTICE_S)
        server.check_alive()
        raise
    finally:
        await asyncio.to_thread(server.stop)


def server_args(endpoint: EndpointSection, port: int) -> list[str]:
    """The command line of vLLM's server for these settings."""
    engine = endpoint.engine
    folder = Path(endpoint.model)
    options: dict[str, object] = {
        "--model": folder.absolute() if folder.is_dir() else endpoint.model,
        "--served-model-name": endpoint.model,
        "--host": engine.host,
        "--port": port,
        "--dtype": engine.dtype,
        "--max-num-seqs": engine.max_num_seqs,
        "--max-model-len": engine.max_model_len,
        "--block-size": engine.block_size,
        # VLLM_CPU_KVCACHE_SPACE takes whole gibibytes only, and is deprecated.
        "--kv-cache-memory-bytes": int(engine.kv_cache_gib * GIB) if engine.kv_cache_gib else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    # Without it vLLM mixes the model's own sampling defaults (top_k, repetition penalty) into every request.
    given.setdefault("--generation-config", "vllm")
    switches = ["--disable-uvicorn-access-log", "--disable-log-stats"]
    switches += ["--enforce-eager"] * engine.enforce_eager + ["--trust-remote-code"] * engine.trust_remote_code
    return [str(word) for pair in given.items() for word in pair] + switches + list(engine.extra_args)


def _has_flag(engine: EngineSection, flag: str) -> bool:
    return any(argument.split("=")[0] == flag for argument in engine.extra_args)


def _port(engine: EngineSection, section: str) -> int:
    """The port to use: the one that is set, if it is free, or any free one."""
    with socket.socket() as probe:
        # As the server itself binds: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((engine.host, engine.port))
        except OSError as error:
            if engine.port:
                raise port_taken(section, engine.port) from error
            raise EngineError(f"{section}.engine.host {engine.host} is no address of this machine") from error
        return int(probe.getsockname()[1])


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _healthy(base_url: str) -> bool:
    try:
        with _direct.open(f"{base_url.removesuffix('/v1')}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(text)

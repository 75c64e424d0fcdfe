"""Starting, watching and stopping servers, with a few lines in vLLM's place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from generation.engine import ManagedServer, Served, serve, server_args, start
from generation.host import close_hosts, host_for
from ratify.errors import EndpointError, EngineError
from ratify.sections import EndpointSection, EngineSection
from tests.generation.fake_chat_server import MODEL, serving
from tests.generation.fake_vllm import PARENT, model_folder, python_with_fake_vllm


@pytest.fixture(autouse=True)
def _hosts_end() -> Iterator[None]:
    yield
    close_hosts()


def endpoint(folder: Path, *extra: str, **engine: object) -> EndpointSection:
    python = folder / "python"
    if not python.exists():
        python_with_fake_vllm(folder)
    model = folder / "model"
    settings = {"python": python, "extra_args": ("--pids", str(folder / "pids"), *extra), **engine}
    return EndpointSection(
        model=str(model) if model.exists() else model_folder(model), engine=EngineSection.model_validate(settings)
    )


def fails(section: EndpointSection, log: Path) -> str:
    async def run() -> None:
        async with serve(section, log_path=log):
            pass

    with pytest.raises(EngineError) as caught:
        asyncio.run(run())
    return str(caught.value)


def pids(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "pids").read_text().split()]


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(numbers: list[int], within_s: float = 8.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(runs(pid) for pid in numbers):
            return True
        time.sleep(0.05)
    return False


def test_a_server_is_ready_then_gone_with_its_children(tmp_path: Path) -> None:
    waits: list[float] = []

    async def run() -> list[int]:
        async with serve(endpoint(tmp_path), log_path=tmp_path / "logs" / "vllm.log", on_wait=waits.append) as served:
            assert served.model == str(tmp_path / "model")
            assert served.base_url.startswith("http://127.0.0.1:")
            return pids(tmp_path)

    assert gone(asyncio.run(run()), within_s=5)
    assert waits == sorted(waits)
    assert waits
    assert "arguments: --model" in (tmp_path / "logs" / "vllm.log").read_text()


def test_two_servers_start_together_from_one_host(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    section = endpoint(tmp_path / "a")
    first = start(section, log_path=tmp_path / "a.log")
    second = start(section, log_path=tmp_path / "b.log", section="judge")

    async def both(*servers: ManagedServer) -> list[Served]:
        return [await server.wait_ready() for server in servers]

    places = asyncio.run(both(first, second))
    assert places[0].base_url != places[1].base_url
    children = psutil.Process(host_for(section.engine).pid).children()
    assert len(children) == 2
    first.stop()
    second.stop()
    first.stop()
    assert gone([child.pid for child in children], within_s=5)


@pytest.mark.parametrize("victim", ["parent", "host"])
def test_no_server_outlives_a_killed_parent_or_host(tmp_path: Path, victim: str) -> None:
    section = endpoint(tmp_path)
    command = [sys.executable, "-c", PARENT, section.model_dump_json(), str(tmp_path / "vllm.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()}) as parent:  # noqa: PTH109
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"ready\n"
            (host,) = psutil.Process(parent.pid).children()
            numbers = [host.pid, *pids(tmp_path)]
            os.kill(parent.pid if victim == "parent" else host.pid, signal.SIGKILL)
            assert gone(numbers)
        finally:
            parent.kill()


def test_the_log_of_a_dead_server_becomes_one_sentence(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("an earlier start: CUDA out of memory\n")
    section = endpoint(tmp_path, "--die-with", "ValueError: unknown architecture Foo")
    assert fails(section, log) == (
        f"the vLLM server of policy ended on its own: ValueError: unknown architecture Foo (log: {log})"
    )
    section = endpoint(tmp_path, "--die-with", "RuntimeError: [enforce fail] can't allocate memory")
    assert "does not fit in memory: lower policy.engine.kv_cache_gib" in fails(section, log)


def test_requests_that_fail_because_the_server_died_are_explained_by_its_log(tmp_path: Path) -> None:
    async def run() -> None:
        async with serve(endpoint(tmp_path), log_path=tmp_path / "vllm.log"):
            os.kill(pids(tmp_path)[0], signal.SIGKILL)
            assert await asyncio.to_thread(gone, pids(tmp_path))
            raise EndpointError("3 of 9 requests failed")

    with pytest.raises(EngineError, match="the vLLM server of policy ended on its own"):
        asyncio.run(run())


def test_a_server_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    section = endpoint(tmp_path, "--never-ready", "1", start_timeout_s=3)
    sentence = fails(section, tmp_path / "vllm.log")
    assert "was not ready after 3 s; raise policy.engine.start_timeout_s" in sentence
    assert gone(pids(tmp_path), within_s=5)


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use: set policy.engine.port" in fails(
            endpoint(tmp_path, port=port), tmp_path / "log"
        )


def test_an_interpreter_without_vllm_is_named(tmp_path: Path) -> None:
    python_with_fake_vllm(tmp_path, import_error="ModuleNotFoundError('no vllm', name='vllm')")
    assert "python has no vLLM: install it there" in fails(endpoint(tmp_path), tmp_path / "vllm.log")


def test_a_vllm_that_does_not_import_is_quoted(tmp_path: Path) -> None:
    python_with_fake_vllm(tmp_path, import_error="OSError('libcudart.so.13 is missing')")
    sentence = fails(endpoint(tmp_path), tmp_path / "vllm.log")
    assert "vLLM cannot be imported by" in sentence
    assert "libcudart.so.13 is missing" in sentence
    assert "Traceback" in (tmp_path / "vllm.log").read_text()


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    section = endpoint(tmp_path, python=tmp_path / "nothing")
    assert "cannot be run (No such file or directory)" in fails(section, tmp_path / "vllm.log")


def test_a_base_url_is_checked_and_nothing_started(tmp_path: Path) -> None:
    async def run(model: str) -> str:
        async with serving(lambda _body: "x") as fake:
            section = EndpointSection(model=model, base_url=fake.base_url)
            async with serve(section, log_path=tmp_path / "vllm.log") as served:
                return f"{served.model} {served.base_url == fake.base_url}"

    assert asyncio.run(run(MODEL)) == f"{MODEL} True"
    with pytest.raises(EndpointError, match="does not serve 'another'"):
        asyncio.run(run("another"))
    assert not (tmp_path / "vllm.log").exists()


def test_settings_become_the_servers_arguments() -> None:
    engine = EngineSection(
        dtype="float32", max_model_len=512, max_num_seqs=64, block_size=32, kv_cache_gib=0.5, enforce_eager=True,
        extra_args=("--seed", "3"),
    )  # fmt: skip
    words = server_args(EndpointSection(model="org/name", engine=engine), 8000)
    options = dict(pairwise(words))
    assert options["--kv-cache-memory-bytes"] == str(1 << 29)
    assert options["--served-model-name"] == options["--model"] == "org/name"
    assert (options["--max-model-len"], options["--block-size"], options["--dtype"]) == ("512", "32", "float32")
    assert options["--generation-config"] == "vllm"
    assert "--enforce-eager" in words
    assert "--trust-remote-code" not in words
    assert words[-2:] == ["--seed", "3"]

"""Services outlive the command that starts them, and nothing else is ever ended in their place."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.local_stack import Places, choose_ports, database_url
from flows.services import Service, Stack, changing, free_port, read_stack, start, stop, write_stack
from ratify.errors import ConfigError, StoreError
from ratify.processes import start_time

SLEEPER = [sys.executable, "-c", "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); "
           "import time; time.sleep(60)"]  # fmt: skip


def wait_for_line(path: Path) -> str:
    end = time.monotonic() + 60
    while not path.read_text().endswith("\n"):
        assert time.monotonic() < end
        time.sleep(0.02)
    return path.read_text().strip()


def test_stop_ends_a_service_and_what_it_started(tmp_path: Path) -> None:
    service = start("sleeper", SLEEPER, tmp_path, os.environ)
    grandchild = int(wait_for_line(tmp_path / "sleeper.log"))
    assert service.alive and start_time(grandchild) is not None
    assert stop(service)
    assert not service.alive and start_time(grandchild) is None
    assert not stop(service), "the second time there is nothing to end"


def test_a_service_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    service = start("stubborn", [sys.executable, "-c", stubborn], tmp_path, os.environ)
    wait_for_line(tmp_path / "stubborn.log")
    assert stop(service, grace_s=0.2) and not service.alive


@pytest.mark.parametrize("wrong", [{"started": 1}, {"boot": "another boot"}])
def test_a_process_that_got_the_same_id_later_is_left_alone(tmp_path: Path, wrong: dict[str, object]) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        known = start("probe", ["true"], tmp_path, os.environ)
        mark = {"pid": bystander.pid, "started": start_time(bystander.pid)}
        assert known.model_copy(update=mark).alive
        assert not stop(known.model_copy(update=mark | wrong))
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


def test_what_was_started_is_found_again_and_a_broken_state_is_one_sentence(tmp_path: Path) -> None:
    service = Service(name="server", pid=1, started=2, boot="b", log="l", port=4200)
    write_stack(tmp_path, Stack(services={"server": service}))
    assert read_stack(tmp_path).services == {"server": service}
    assert read_stack(tmp_path / "nowhere").services == {}
    (tmp_path / "services.json").write_text("{")
    with pytest.raises(StoreError, match="not a state of this version"):
        read_stack(tmp_path)


def test_two_commands_do_not_start_services_at_once(tmp_path: Path) -> None:
    with changing(tmp_path), pytest.raises(StoreError, match="another command"), changing(tmp_path):
        pass


def test_ports_come_back_where_they_were_and_never_where_somebody_listens(tmp_path: Path) -> None:
    known = Stack(services={"server": Service(name="server", pid=1, started=0, boot="", log="", port=free_port())})
    places = Places(tmp_path, tmp_path)
    assert choose_ports(places, known).api == known.port("server")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port
        with pytest.raises(ConfigError, match="taken by another program"):
            choose_ports(Places(tmp_path, tmp_path, api_port=port), Stack())


def test_a_database_is_postgresql_with_prefects_driver_and_its_password_is_not_repeated() -> None:
    assert database_url("postgresql://u:p@h/d") == "postgresql+asyncpg://u:p@h/d"
    assert database_url("sqlite+aiosqlite:///f") == "sqlite+aiosqlite:///f"
    with pytest.raises(ConfigError) as fault:
        database_url("mysql://me:planted@h/d")
    assert "planted" not in str(fault.value)

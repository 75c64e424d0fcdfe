"""What a run does when its surroundings fail: a full disk, a judge that answers rubbish, and a key that must not
leak."""

import base64
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from ratify.lineage import ROOT
from ratify.sections import JudgeSection
from ratify.verdict_store import VerdictStore
from tests.judges.chaos_server import ChaosServer
from tests.judges.fake_server import FakeServer

SECRET = "sk-planted-7f3a9c"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_afterwards(
    tiny_disk: Path, small_run: list[str], ratify: Callable[..., object]
) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(220_000))
    arguments = [*small_run, f"run.dir={tiny_disk}", "--no-prefect"]
    full = ratify("generate", *arguments)
    assert full.code == 6 and "the disk is full" in full.err and full.err.count("\n") == 1
    ballast.unlink()
    assert ratify("generate", *arguments).code == 0


def test_a_judge_that_answers_rubbish_is_named(small_run: list[str], ratify: Callable[..., object]) -> None:
    assert ratify("generate", *small_run, "--no-prefect").code == 0
    with FakeServer() as server:
        server.always = "html"
        judge = ["judge.kind=model", f"judge.base_url={server.url}", "judge.model=fake-judge"]
        said = ratify("label", *small_run, *judge, "judge.max_retries=0", "--no-prefect")
    assert said.code in (5, 7) and "Traceback" not in said.err
    assert said.err.count("\n") == 1, said.err


def test_a_key_never_reaches_a_file_or_a_message(small_run: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PLANTED_KEY": SECRET}
    arguments = [*small_run, "policy.api_key_env=PLANTED_KEY", "judge.api_key_env=PLANTED_KEY", "--no-prefect"]
    said = [
        subprocess.run(
            [sys.executable, "-m", "flows.cli", stage, *arguments], cwd=ROOT, env=environment, capture_output=True
        )
        for stage in ("generate", "label")
    ]
    assert [one.returncode for one in said] == [0, 0]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in written + b"".join(one.stdout + one.stderr for one in said)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_key_that_a_server_echoes_reaches_no_file_page_message_database_or_command_line(
    small_run: list[str], tmp_path: Path, ratify: Callable[..., object]
) -> None:
    """The judge's server sends the key and the prompt back in its errors, among other faults; under Prefect, whose
    database holds parameters, logs, states and artifacts, and once more while an edit is applied."""
    assert ratify("generate", *small_run, "--no-prefect").code == 0
    edited, home = tmp_path / "edited.yaml", tmp_path / "prefect"
    text = (ROOT / "constitutions" / "demo.yaml").read_text()
    edited.write_text(text.replace("The reply is polite and respectful.", "The reply is courteous and kind."))
    with ChaosServer(0.6, kinds=("key", "truncated", "429", "wrong type")) as server:
        judge = ["judge.kind=model", f"judge.base_url={server.url}", "judge.model=fake", "judge.max_retries=1",
                 "judge.api_key_env=PLANTED_KEY", "judge.failure_budget=1.0", "judge.timeout_s=5"]  # fmt: skip
        said = b""
        for command in (
            ["label", *small_run, *judge, "labels.pairs_per_prompt=1"],
            ["apply", "constitutions/demo.yaml", str(edited), "--run", str(tmp_path / "small")],
        ):
            server.sound = server.requests + 4  # the look at what the server can do
            before = server.spoiled["key"]
            said += _said_and_shown(command, home)
            assert server.spoiled["key"] > before
    failures = [raw for _, _, raw in VerdictStore.in_folder(tmp_path / "small").failures()]
    assert any("cannot serve" in raw and "[redacted]" in raw and "[prompt]" in raw for raw in failures)
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        assert database.execute("SELECT count(*) FROM artifact").fetchone()[0] > 0
        (parameters,) = database.execute("SELECT parameters FROM flow_run").fetchone()
    assert "PLANTED_KEY" in parameters and [*tmp_path.rglob("flips.html")]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for form in (SECRET.encode(), base64.b64encode(SECRET.encode())):
        assert form not in written + said


def _said_and_shown(command: list[str], home: Path) -> bytes:
    """What a command prints, and the command lines of all processes meanwhile."""
    environment = {**os.environ, "PLANTED_KEY": SECRET, "PREFECT_HOME": str(home), "PREFECT_API_URL": ""}
    child = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *command], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: set[bytes] = set()
    while child.poll() is None:
        lines |= {_bytes_of(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
        time.sleep(0.1)
    assert child.stdout
    said = child.stdout.read()
    child.stdout.close()
    assert child.returncode == 0, said
    return said + b"".join(lines)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        (f"judge.api_key_env={SECRET}", "must name an environment variable"),
        (f"judge.base_url=http://me:{SECRET}@host/v1", "must not carry a key"),
        (f"judge.base_url=['http://a/v1', 'http://b/v1?key={SECRET}']", "must not carry a key"),
        (f"judge.engine.extra_args=['--api-key={SECRET}']", "VLLM_API_KEY"),
        (f"panel.judges=[{{name='a', base_url='http://me:{SECRET}@host/v1', model='m'}}]", "must not carry a key"),
        (f"store.url=postgresql+psycopg://me:{SECRET}@host/db", "must not carry a password"),
        (f"store.url=postgresql+psycopg://host/db?password={SECRET}", "must not carry a password"),
    ],
)
def test_a_key_in_the_configuration_is_refused_without_being_repeated(
    override: str, remedy: str, ratify: Callable[..., object]
) -> None:
    said = ratify("run", "configs/demo.toml", override, "--dry-run")
    assert said.code == 2 and remedy in said.err, said
    assert SECRET not in said.err + said.out


def test_a_key_that_is_none_is_named_by_its_variable(
    small_run: list[str], ratify: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", f"{SECRET}\nexport OTHER=1")
    said = ratify("generate", *small_run, "policy.api_key_env=PLANTED_KEY", "--no-prefect")
    assert said.code == 5 and "PLANTED_KEY holds no key" in said.err and "planted" not in said.err


def test_the_error_of_a_section_does_not_repeat_what_it_was_given() -> None:
    """Prefect logs it where a deployment's parameters are wrong."""
    for address in (f"http://me:{SECRET}@host/v1", f"http://host/v1?key={SECRET}"):
        with pytest.raises(ValidationError, match="must not carry a key") as caught:
            JudgeSection(base_url=address)
        assert SECRET not in str(caught.value) + repr(caught.value)

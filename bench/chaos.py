"""`kill -9` at random moments of whole small rounds: the flow, vLLM and its host, the trainer, Prefect's server.

    python -m bench.chaos [--kills 100] [--seed 0] [--prefect 0.3] [--json PATH] [--keep FOLDER]

Two rounds that nobody disturbs come first: sampling by the real vLLM, judging by a server that counts what it is asked,
training, evaluation. Files that these two share byte for byte are deterministic, and are what a killed round must end
with; the others are named (they hold times, speeds or hashes of such files). Then rounds are run and killed: a stage is
drawn, a moment in it, and a victim, until the kills are used up; each round is started again until it gets through.
A victim other than the flow leaves it to the flow to end by itself, with one sentence and its own exit code.

vLLM computes one request at a time here, without its prefix cache: its texts depend on how requests fall into batches,
which no orchestration decides. What is in flight at a kill is paid again, at most `IN_FLIGHT` requests to the judge.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from bench.chat_server import counts, reset, serving
from ratify.canonical import file_digest
from ratify.files import write_json
from ratify.lineage import ROOT

IN_FLIGHT = 8
STAGES = ("generate", "label", "reward_model", "policy", "evaluate")
WEIGHTS = (2, 3, 3, 3, 2)
VICTIMS = {"trainer": "training.child", "prefect server": "flows.temporary_server"}
"""By what their command lines are recognised; the others are the flow itself, vLLM's host, and its forked servers."""
SENTENCES = {2, 3, 4, 5, 6, 7, 8, 11, 130}
"""Exit codes of faults that are told in one sentence."""
LEFT_AFTER_S = 60.0
SETTINGS = (
    "prompts.train_limit=12", "prompts.heldout_limit=4", "sampling.completions_per_prompt=4", "sampling.shard_size=2",
    "sampling.max_tokens=24", "policy.concurrency=1", "policy.engine.max_num_seqs=1",
    "policy.engine.extra_args=['--no-enable-prefix-caching']",
    "judge.kind=model", "judge.model=fake", "judge.protocol=pairwise", "judge.max_same_position=1.0",
    f"judge.concurrency={IN_FLIGHT}",
    "reward_model.epochs=2", "reward_model.batch_prompts=2", "reward_model.save_every_steps=2",
    "preference.epochs=3", "preference.batch_prompts=2", "preference.save_every_steps=2",
)  # fmt: skip


class Death(NamedTuple):
    """One kill."""

    stage: str
    victim: str
    code: int
    """How the flow ended."""
    seconds: float
    """From the kill to the end of the flow and of all its processes."""
    left: int
    """Processes that outlived it."""
    told: bool
    """Without a traceback, and where the flow ended by itself with one sentence."""


class Tally:
    """What the kills did."""

    def __init__(self, probes: int) -> None:
        self.deaths: list[Death] = []
        self.probes = probes
        """Requests of a start that look at what the judge can do, and are no verdicts."""
        self.rounds = 0
        self.different: Counter[str] = Counter()
        """Files that differ from the undisturbed round's, and how often."""
        self.lost = 0
        """Verdicts that were stored before a kill and were gone or different after it."""
        self.paid_again = self.most_paid_again = 0

    @property
    def clean(self) -> bool:
        """Nothing different, lost or left behind; nothing paid again beyond what was in flight."""
        ends_well = all(death.told and not death.left for death in self.deaths)
        return ends_well and not self.different and not self.lost and self.most_paid_again <= IN_FLIGHT


class Round:
    """One run folder, started as often as it takes."""

    def __init__(self, place: Path, name: str, url: str) -> None:
        self.folder = place / name
        self.url = url
        self._arguments = [*SETTINGS, f"run.dir={place}", f"run.name={name}", f"judge.base_url={url}/v1"]

    def start(self, *, prefect: bool) -> subprocess.Popen[str]:
        """Start the whole job."""
        command = [sys.executable, "-m", "flows.cli", "run", "configs/demo.toml", *self._arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PREFECT_HOME": str(self.folder.parent / "prefect")}
        environment.pop("PREFECT_API_URL", None)
        return subprocess.Popen(
            [*command, *["--no-prefect"] * (not prefect)],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stage(self) -> str | None:
        """The stage at work, or None before the first; the last one when all have finished."""
        begun = [name for name in STAGES if (self.folder / "round-000" / name / "inputs.json").exists()]
        return begun[-1] if begun else None

    def finished(self, stage: str) -> bool:
        """Whether a stage has its manifest."""
        return (self.folder / "round-000" / stage / "manifest.json").exists()

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file of the round but logs."""
        found = self.folder / "round-000"
        return {
            str(path.relative_to(found)): file_digest(path)
            for path in sorted(found.rglob("*"))
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".log" and path.name != "log.txt"
        }

    def verdicts(self) -> dict[str, float]:
        """Log-odds by key, as they are on disk."""
        path = self.folder / "verdicts.sqlite"
        if not path.exists():
            return {}
        engine = sa.create_engine(f"sqlite:///{path}")
        try:
            with engine.connect() as connection:
                if not sa.inspect(connection).has_table("verdicts"):
                    return {}
                return dict(connection.execute(sa.text("SELECT key, logit FROM verdicts")).all())  # type: ignore[arg-type]
        finally:
            engine.dispose()


class Undisturbed(NamedTuple):
    """What two rounds that nobody killed have in common."""

    same: dict[str, str]
    """SHA-256 of the files that they share byte for byte."""
    varying: list[str]
    """The files that they do not share."""
    spans: dict[str, float]
    """Seconds that each stage took, in the faster of the two: a moment behind a stage's end would fall on the first
    instant of the next."""
    probes: int
    """Requests to the judge that are no verdicts."""


def undisturbed(place: Path, url: str) -> Undisturbed:
    """Run two rounds and compare them."""
    found, probes = [], 0
    for name in ("whole", "again"):
        job = Round(place, name, url)
        process = job.start(prefect=False)
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"a round that nobody killed failed: {said}")
        found.append(job.hashes())
        probes = counts(url)["requests"] - len(job.verdicts())
        reset(url)
    same = {name: sha for name, sha in found[0].items() if found[1].get(name) == sha}
    rounds = [place / name / "round-000" for name in ("whole", "again")]
    spans = {stage: min(_seconds(one / stage) for one in rounds) for stage in STAGES}
    return Undisturbed(same, sorted(found[0].keys() - same.keys()), spans, probes)


def _seconds(stage: Path) -> float:
    """Between the first and the last write to a stage's folder."""
    return (stage / "manifest.json").stat().st_mtime - (stage / "inputs.json").stat().st_mtime


def kill_often(
    kills: int, seed: int, prefect: float, place: Path, minutes: float = math.inf
) -> tuple[Tally, int, list[str]]:
    """Kill rounds until `kills` or `minutes` are used up; the tally, the files compared, and those that were not."""
    with serving("--latency", "0.05") as url:
        whole = undisturbed(place, url)
        same, tally = whole.same, Tally(whole.probes)
        plan = Plan(kills, random.Random(seed), prefect, whole.spans, time.monotonic() + 60 * minutes)
        print(f"{len(same)} files the same in two undisturbed rounds; not compared: {whole.varying}", flush=True)
        while plan.goes_on(tally):
            job = Round(place, f"killed-{seed}-{tally.rounds}", url)
            while not _one_start(job, plan, tally):
                pass
            now = job.hashes()
            tally.different.update(name for name, sha in same.items() if now.get(name) != sha)
            tally.rounds += 1
            shutil.rmtree(job.folder)
    return tally, len(same), whole.varying


class Plan(NamedTuple):
    """How killing goes on."""

    kills: int
    draw: random.Random
    prefect: float
    """Share of starts under Prefect."""
    spans: dict[str, float]
    until: float
    """On the monotonic clock: nothing is killed any more after it."""

    def goes_on(self, tally: Tally) -> bool:
        """Whether there is another kill to come."""
        return len(tally.deaths) < self.kills and time.monotonic() < self.until


def _one_start(job: Round, plan: Plan, tally: Tally) -> bool:
    """Start the round, kill something in it; whether it got through."""
    draw = plan.draw
    open_stages = [stage for stage in STAGES if not job.finished(stage)]
    weights = [WEIGHTS[STAGES.index(stage)] * 4.0 ** -open_stages.index(stage) for stage in open_stages]
    target = draw.choices([*open_stages, None], [*weights, 0.2])[0] if plan.goes_on(tally) else None
    before, sent = job.verdicts(), counts(job.url)["requests"]
    process = job.start(prefect=draw.random() < plan.prefect)
    crew: set[int] = set()
    death = None
    if target and _reached(job, process, target, draw.uniform(0, plan.spans[target]), crew):
        death = _kill(job, process, draw, crew)
    said = process.communicate(timeout=900)[1]
    if death is None and process.returncode:
        raise SystemExit(f"a start that nobody killed failed: {said}")
    after = job.verdicts()
    tally.lost += sum(after.get(key) != logit for key, logit in before.items())
    again = max(0, counts(job.url)["requests"] - sent - (len(after) - len(before)) - tally.probes)
    if death is None:
        return True
    left = _left(crew)
    stage, victim, moment = death
    told = "Traceback" not in said and (victim == "flow" or process.returncode in SENTENCES | {0})
    tally.deaths.append(Death(stage, victim, process.returncode, time.monotonic() - moment, left, told))
    tally.paid_again += again
    tally.most_paid_again = max(tally.most_paid_again, again)
    print(f"{len(tally.deaths)}: {tally.deaths[-1]}, paid again {again}", flush=True)
    if not told:
        print(said, flush=True)
    return process.returncode == 0


def _reached(job: Round, process: subprocess.Popen[str], target: str, delay_s: float, crew: set[int]) -> bool:
    """Wait for a moment in a stage; False when the round has ended before."""
    entered = None
    while process.poll() is None:
        crew |= set(_family(process.pid))
        if entered is None and job.stage() == target:
            entered = time.monotonic()
        if entered is not None and (time.monotonic() - entered > delay_s or job.stage() != target):
            return True
        time.sleep(0.05)
    return False


def _kill(
    job: Round, process: subprocess.Popen[str], draw: random.Random, crew: set[int]
) -> tuple[str, str, float] | None:
    """Kill one of the round's processes; the stage, who it was, and when."""
    alive = {process.pid: "flow"}
    for pid in _family(process.pid):
        name = _role(pid)
        if name is not None:
            alive[pid] = name
    crew |= set(_family(process.pid))
    kind = draw.choice(sorted(set(alive.values())))
    pid = draw.choice(sorted(pid for pid, name in alive.items() if name == kind))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return job.stage() or "start", kind, time.monotonic()


def _role(pid: int) -> str | None:
    """Which victim a process of the round is."""
    line = _command(pid)
    if "vllm_host.py" in line or "VLLM::" in line:
        return "vllm server" if "vllm_host.py" in _command(_parent(pid)) else "vllm host"
    return next((name for name, mark in VICTIMS.items() if mark in line), None)


def _family(pid: int) -> Iterator[int]:
    """The descendants of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text(encoding="utf-8").split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from _family(child)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""


def _left(crew: set[int]) -> int:
    """How many processes are still there after a while; they are ended."""
    end = time.monotonic() + LEFT_AFTER_S
    while (left := [pid for pid in crew if _command(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def summary(tally: Tally, compared: int) -> list[str]:
    """The figures as lines."""
    victims = Counter(death.victim for death in tally.deaths)
    stages = Counter(death.stage for death in tally.deaths)
    codes = Counter((death.victim, death.code) for death in tally.deaths if death.victim != "flow")
    slowest = max((death.seconds for death in tally.deaths), default=0.0)
    return [
        f"{len(tally.deaths)} kills in {tally.rounds} rounds: {_counted(victims)}; in {_counted(stages)}",
        f"{compared} files compared after each round, {sum(tally.different.values())} different "
        f"{dict(tally.different) or ''}",
        f"{tally.lost} verdicts lost; {tally.paid_again} judge requests paid again, at most {tally.most_paid_again} by "
        f"one kill ({IN_FLIGHT} in flight)",
        f"{sum(death.left for death in tally.deaths)} processes left behind; "
        f"{sum(not death.told for death in tally.deaths)} ends without one sentence; slowest end {slowest:.0f} s",
        "the flow's exit code after another's death: "
        + ", ".join(f"{victim} {code} ×{count}" for (victim, code), count in sorted(codes.items())),
        "clean" if tally.clean else "NOT clean",
    ]


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefect", type=float, default=0.3, help="share of starts under Prefect")
    parser.add_argument("--minutes", type=float, default=math.inf, help="kill nothing any more after so long")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    given = parser.parse_args()
    place = given.keep or Path(tempfile.mkdtemp(prefix="ratify-chaos-"))
    try:
        tally, compared, varying = kill_often(given.kills, given.seed, given.prefect, place, given.minutes)
    finally:
        if given.keep is None:
            shutil.rmtree(place, ignore_errors=True)
    print("\n".join(summary(tally, compared)))
    if given.json:
        write_json(given.json, {
            "compared": compared, "not_compared": varying, "rounds": tally.rounds, "lost": tally.lost,
            "different": dict(tally.different), "paid_again": tally.paid_again,
            "most_paid_again": tally.most_paid_again, "deaths": [death._asdict() for death in tally.deaths],
        })  # fmt: skip


if __name__ == "__main__":
    main()

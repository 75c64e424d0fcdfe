"""Relabelling after an edit: exactly the calls that the edit needs, labels as a full relabel makes them, one sentence
for what cannot work.

The judge is a fake server whose answer depends on nothing but the text it is sent, so requests can be counted and
labels compared byte by byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from flows.stages import relabel_apply
from flows.stages.relabel import Bench, Held, context_of, hold
from judges.dataset import read_labels, read_pairs
from ratify.lineage import ROOT
from tests.judges.fake_server import FakeServer

SIXTEEN = range(16)
PROMPTS = ROOT / "data/demo/prompts/train.jsonl"
PAIRS = 12 * 6
"""Twelve prompts with four replies each."""


class World(NamedTuple):
    run: Path
    server: FakeServer
    ratify: Callable[..., Any]
    arguments: list[str]
    old: Path

    @property
    def asked(self) -> int:
        """Judge questions that reached the server; a look at what it can do is none."""
        return sum("The reply is" in text for text in self.server.texts)

    def edit(self, *swaps: tuple[str, str]) -> Path:
        """The constitution with words replaced."""
        text = self.old.read_text()
        for was, becomes in swaps:
            assert was in text
            text = text.replace(was, becomes, 1)
        path = self.old.with_name("new.yaml")
        path.write_text(text)
        return path

    def apply(self, new: Path, *more: str) -> tuple[int, Path]:
        """Requests that `apply` made, and the folder it wrote."""
        before = self.asked
        said = self.ratify("apply", str(self.old), str(new), "--run", str(self.run), *more)
        assert said.code == 0, said.err
        found = re.search(r"labels: +(.*)/labels\.parquet", said.out)
        assert found
        return self.asked - before, Path(found[1])


def constitution_text() -> str:
    lines = [
        f"  - id: p{number}\n    weight: 1.0\n    text: The reply is fine in way {number}.\n" for number in SIXTEEN
    ]
    head = (
        "schema: constitution/v1\nid: sixteen\nversion: 1.0.0\naggregate: {method: logit_mean, clamp: [0.02, 0.98]}\n"
    )
    return head + "tiers: [high, low]\nprinciples:\n" + "".join(lines)


@pytest.fixture(params=["pairwise", "pointwise"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def make_world(
    tmp_path: Path, small_run: list[str], server: FakeServer, ratify: Callable[..., Any], protocol: str
) -> Callable[..., World]:
    """Makes a run whose labels are made."""

    def make(text: str, *more: str) -> World:
        old = tmp_path / "old.yaml"
        old.write_text(text)
        arguments = [
            *small_run, "prompts.train_limit=12", "judge.kind=model", f"judge.base_url={server.url}",
            "judge.model=fake", f"judge.protocol={protocol}", f"constitution={old}", "judge.max_same_position=1", *more,
        ]  # fmt: skip
        for stage in ("generate", "label"):
            said = ratify(stage, *arguments, "--no-prefect")
            assert said.code == 0, said.err
        return World(tmp_path / "small", server, ratify, arguments, old)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """16 principles, every pair in both orders or every reply alone."""
    return make_world(constitution_text())


def per_principle(world: World) -> int:
    """Calls that one principle needs: two per pair, two per prompt, or one per different reply."""
    bench = Bench(context_of(world.run))
    assert len(bench.pairs) == PAIRS
    if bench.context.config.judge.protocol == "ranking":
        return 2 * len({a.prompt_id for a, _ in bench.pairs})
    if bench.judge.protocol == "pairwise":
        return 2 * PAIRS
    return len({(reply.prompt_id, reply.text) for reply in bench.completions.values()})


def full_relabel(world: World, new: Path, tmp_path: Path) -> Path:
    """Another run with an empty store, labelled by the new constitution from scratch."""
    arguments = [*world.arguments, f"constitution={new}", f"store.url=sqlite:///{tmp_path}/empty.sqlite"]
    said = world.ratify("label", *arguments, "--no-prefect")
    assert said.code == 0, said.err
    return world.run / "round-000" / "label"


@pytest.mark.parametrize("protocol", ["pairwise", "pointwise", "ranking"], indirect=True)
def test_a_new_text_judges_that_principle_alone_and_labels_equal_a_full_relabel(world: World, tmp_path: Path) -> None:
    new = world.edit(("fine in way 5", "kind and plain"))
    calls, folder = world.apply(new)
    assert calls == per_principle(world)
    assert {"kind and plain" in text for text in world.server.texts[-calls:]} == {True}
    before = world.asked
    full = full_relabel(world, new, tmp_path)
    assert world.asked - before == 16 * per_principle(world)
    for name in ("labels.parquet", "pairs.parquet"):
        assert (folder / name).read_bytes() == (full / name).read_bytes()


def open_questions(world: World, phrase: str) -> set[tuple[str, ...]]:
    """What has to be asked of one principle whose check forbids a phrase, worked out the slow way."""
    bench, found = Bench(context_of(world.run)), set()
    for a, b in bench.pairs:
        if (phrase in a.text.split()) == (phrase in b.text.split()):
            both = [(a.text, b.text), (b.text, a.text)]
            found |= {(a.prompt_id, *order[: 1 if bench.judge.protocol == "pointwise" else 2]) for order in both}
    return found


def checked(phrase: str) -> tuple[str, str]:
    """The edit that gives principle p5 a check."""
    check = f"checks: [{{type: phrases_absent, phrases: [{phrase}]}}]"
    return "text: The reply is fine in way 5.", f"{check}\n    text: The reply is fine in way 5."


def test_checks_spare_calls_and_their_edit_asks_only_what_they_newly_leave_open(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(constitution_text().replace(*checked("stupid")))
    before, after = open_questions(world, "stupid"), open_questions(world, "maybe")
    assert world.asked == 15 * per_principle(world) + len(before) < 16 * per_principle(world)
    manifest = json.loads((world.run / "round-000/label/manifest.json").read_text())
    labels = read_labels(world.run / "round-000/label/labels.parquet")
    assert manifest["metrics"]["label/checks/decided"] == sum(label.by_checks == ("p5",) for label in labels) > 0
    new = world.edit(("[stupid]", "[maybe]"))
    plan = ("plan", str(world.old), str(new), "--run", str(world.run), "--sample", "0")
    figures = json.loads(world.ratify(*plan, "--json").out)
    assert figures["calls_by_principle"] == {"p5": len(after - before)}
    assert f"decide {figures['decided_by_checks']['p5']:,} views without a call (p5" in world.ratify(*plan).out
    calls, folder = world.apply(new)
    assert calls == len(after - before)
    reported = json.loads((folder / "flips.json").read_text())
    assert reported["calls"]["label/checks/decided"] == figures["decided_by_checks"]["p5"]
    assert reported["principles"][5]["by_checks"] == figures["decided_by_checks"]["p5"]
    full = full_relabel(world, new, tmp_path)
    for name in ("labels.parquet", "pairs.parquet"):
        assert (folder / name).read_bytes() == (full / name).read_bytes()


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_a_first_check_costs_no_call_and_the_noise_floor_asks_nothing_that_checks_decide(world: World) -> None:
    new = world.edit(checked("stupid"))
    calls, _ = world.apply(new)
    assert calls == 0
    renewed = world.edit(checked("maybe"))
    calls, _ = world.apply(renewed, "--noise", str(PAIRS))
    assert calls == 15 * per_principle(world) + len(open_questions(world, "maybe"))


@pytest.mark.parametrize("protocol", ["pairwise"], indirect=True)
def test_one_principle_per_pair_by_configuration_and_a_seventeenth_takes_its_share(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    """Two requests per pair, but for pairs of one prompt that show the same texts for the same principle."""
    world = make_world(constitution_text(), "labels.principles_per_pair=1", "prompts.train_limit=60")
    pairs = len(Bench(context_of(world.run)).pairs)
    assert pairs == 60 * 6 and world.asked == 2 * pairs
    new = world.edit(("  - id: p15\n", "  - id: p16\n    text: The reply is one more.\n  - id: p15\n"))
    free = json.loads(
        world.ratify("plan", str(world.old), str(new), "--run", str(world.run), "--sample", "0", "--json").out
    )
    calls, folder = world.apply(new)
    assert calls == free["calls"] and set(free["calls_by_principle"]) == {"p16"}
    assert all("one more" in text for text in world.server.texts[-calls:])
    labels = read_labels(folder / "labels.parquet")
    moved = sum(set(label.by_principle) == {"p16"} for label in labels)
    assert calls == 2 * moved and moved / pairs == pytest.approx(1 / 17, abs=0.03)
    full = full_relabel(world, new, tmp_path)
    for name in ("labels.parquet", "pairs.parquet"):
        assert (folder / name).read_bytes() == (full / name).read_bytes()
    everything = json.loads(
        world.ratify(
            "plan", str(world.old), str(new), "--run", str(world.run), "--sample", "0", "--json", "--per-pair", "0"
        ).out
    )
    assert everything["calls"] > 15 * 2 * pairs


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_a_reward_model_per_objective_has_its_own_preference_data(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    text = constitution_text().replace("id: p3\n", "id: p3\n    tier: high\n    applies_to: {tags: [a/b]}\n")
    text = text.replace("id: p4\n", "id: p4\n    tier: low\n").replace("id: p5\n", "id: p5\n    tier: low\n")
    prompts = [json.loads(line) | {"tags": ["a/b"]} for line in PROMPTS.read_text().splitlines()]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in prompts))
    more = f"prompts.train={tmp_path / 'prompts.jsonl'}"
    world = make_world(text, "labels.objectives=['tier', 'tag']", more)
    folder = world.run / "round-000" / "label"
    assert {path.parent.name for path in folder.glob("objectives/*/*")} == {"tier=high", "tier=low", "tag=a%2Fb"}
    table = pq.read_table(folder / "objectives-by-tier.parquet").to_pylist()
    low = read_pairs(folder / "objectives/tier=low/pairs.parquet")
    soft = {(row["a_id"], row["b_id"]): row["low"] for row in table}
    for each in low:
        straight, turned = (each.chosen_id, each.rejected_id), (each.rejected_id, each.chosen_id)
        assert each.probability == (soft[straight] if straight in soft else 1 - soft[turned])
    assert {len(pair.verdict_keys) for pair in low} == {4}
    _, applied = world.apply(world.edit(("weight: 1.0", "weight: 2.0")))
    assert (applied / "objectives/tier=low/pairs.parquet").exists()
    assert pq.read_table(applied / "objectives-by-tier.parquet").to_pylist() == table
    arguments = [*world.arguments, more, "labels.objectives=['tier', 'tag']", "--no-prefect"]
    said = world.ratify("train", *arguments, "reward_model.objective=tier=none")
    assert said.code != 0 and "it has: tag=a/b, tier=high, tier=low" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize("protocol", ["pairwise"], indirect=True)
def test_an_ensemble_asks_n_principles_per_pair(make_world: Callable[..., World]) -> None:
    world = make_world(constitution_text(), "labels.principles_per_pair=3")
    labels = read_labels(world.run / "round-000/label/labels.parquet")
    assert world.asked == 3 * 2 * PAIRS and all(len(label.by_principle) == 3 for label in labels)


FREE = {
    "a weight": [("weight: 1.0", "weight: 7.5")],
    "a tier and a veto": [("weight: 1.0", "weight: 1.0\n    tier: high\n    severity: hard")],
    "the clamp": [("[0.02, 0.98]", "[0.2, 0.8]")],
    "the method": [("logit_mean", "probability_mean")],
    "a comment": [("principles:", "# a remark\nprinciples:")],
    "the order": [("fine in way 0.", "fine in way X."), ("fine in way 15.", "fine in way 0."),
                  ("fine in way X.", "fine in way 15."), ("id: p0\n", "id: pX\n"), ("id: p15", "id: p0"),
                  ("id: pX\n", "id: p15\n")],
    "a rename": [("id: p3\n", "id: third\n    was: p3\n")],
    "a principle less": [("  - id: p15\n    weight: 1.0\n    text: The reply is fine in way 15.\n", "")],
}  # fmt: skip


@pytest.mark.parametrize("protocol", ["pairwise", "pointwise", "ranking"], indirect=True)
def test_weights_tiers_clamp_comments_and_order_cost_no_call(world: World, tmp_path: Path) -> None:
    for name, swaps in FREE.items():
        new = world.edit(*swaps)
        calls, folder = world.apply(new)
        assert calls == 0, name
        before = world.asked
        said = world.ratify("what-if", str(world.old), str(new), "--run", str(world.run), "--json")
        assert said.code == 0 and world.asked == before
        figures = json.loads((folder / "flips.json").read_text())
        assert json.loads(said.out)["changes"] == figures["changes"]
        if name == "the clamp":
            full = full_relabel(world, new, tmp_path)
            assert (folder / "labels.parquet").read_bytes() == (full / "labels.parquet").read_bytes()


@pytest.mark.parametrize("protocol", ["pointwise", "ranking"], indirect=True)
def test_a_plan_without_a_sample_asks_nobody_and_counts_what_apply_asks(world: World) -> None:
    new = world.edit(("fine in way 5", "kind and plain"), ("fine in way 6", "short"))
    before = world.asked
    plan = ("plan", str(world.old), str(new), "--run", str(world.run), "--json")
    free = json.loads(world.ratify(*plan, "--sample", "0", "--price-in", "2").out)
    assert world.asked == before and free["flip_rate"] == {}
    assert free["calls_by_principle"] == {"p5": per_principle(world), "p6": per_principle(world)}
    assert free["minutes"] > 0 and free["tokens"]["prompt"] == 100 * free["calls"]
    assert free["money"] == pytest.approx(2 * free["tokens"]["prompt"] / 1e6)
    sampled = json.loads(world.ratify(*plan, "--sample", "20").out)
    asked = world.asked - before
    assert sampled["asked_for_sample"] == asked and sampled["calls"] == free["calls"]
    assert sampled["left"] == free["calls"] - asked
    shown = world.ratify(*plan[:-1], "--sample", "0").out
    assert f"calls:     {free['calls'] - asked:,}" in shown and "flip rate: not measured" in shown
    calls, folder = world.apply(new)
    assert calls == free["calls"] - asked
    figures = json.loads((folder / "flips.json").read_text())
    assert sampled["flip_rate"]["low"] <= figures["changed"] / PAIRS <= sampled["flip_rate"]["high"]


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_money_comes_from_the_runs_price_and_is_counted(make_world: Callable[..., World]) -> None:
    """100 prompt tokens and one completion token a call, at 3 and 10 a million: 310 millionths."""
    price = "judge.price={prompt_per_million = 3, completion_per_million = 10, currency = 'EUR'}"
    world = make_world(constitution_text(), price)
    metrics = json.loads((world.run / "round-000/label/manifest.json").read_text())["metrics"]
    assert metrics["label/money/EUR"] == pytest.approx(310e-6 * 16 * per_principle(world))
    new = world.edit(("fine in way 5", "kind and plain"))
    plan = ("plan", str(world.old), str(new), "--run", str(world.run), "--sample", "0")
    figures = json.loads(world.ratify(*plan, "--json").out)
    assert figures["money"] == pytest.approx(310e-6 * per_principle(world)) and figures["currency"] == "EUR"
    dearer = json.loads(world.ratify(*plan, "--price-out", "1000", "--json").out)
    assert dearer["money"] == pytest.approx(1300e-6 * per_principle(world))
    assert f"money:     {figures['money']:.2f} EUR" in world.ratify(*plan).out
    _, folder = world.apply(new)
    calls = json.loads((folder / "flips.json").read_text())["calls"]
    assert calls["label/money/EUR"] == pytest.approx(figures["money"])


@pytest.mark.parametrize("protocol", ["pointwise", "ranking"], indirect=True)
def test_the_report_names_what_rests_on_old_labels_and_shows_pairs_side_by_side(world: World, tmp_path: Path) -> None:
    new = world.edit(("weight: 1.0", "weight: 40"), ("fine in way 5", "<script>alert(1)</script> fine"))
    rows = [json.dumps({"a_id": a.id, "b_id": b.id, "better": "a"}) for a, b in Bench(context_of(world.run)).pairs]
    (tmp_path / "gold.jsonl").write_text("\n".join(rows))
    more = ("--noise", "5", "--gold", str(tmp_path / "gold.jsonl"))
    _, folder = world.apply(new, *more)
    figures = json.loads((folder / "flips.json").read_text())
    assert [each["stage"] for each in figures["stale"]] == ["label"]
    assert figures["noise"]["changed"] == 0 and figures["noise"]["pairs"] == 5
    assert sum(figures["changes"].values()) == PAIRS and figures["flips"][0]["change"] == "flipped"
    assert max(figures["principles"], key=lambda row: row["moved"])["principle"] == "p0"
    page, text = (folder / "flips.html").read_text(), (folder / "flips.md").read_text()
    assert "<script" not in page and "Content-Security-Policy" in page
    assert figures["flips"][0]["a"].split()[0] in page and "## Pairs that changed" in text
    assert figures["gold"]["pairs"] == PAIRS and 0 <= figures["gold"]["p"] <= 1 and "McNemar" in text
    again, _ = world.apply(new, *more)
    assert again == 0


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_one_principle_per_pair_asks_that_one_alone(world: World) -> None:
    new = world.edit(("fine in way 5", "kind and plain"))
    calls, folder = world.apply(new, "--per-pair", "1")
    assert 0 < calls < per_principle(world) / 2
    rows = json.loads((folder / "flips.json").read_text())["principles"]
    assert sum(row["applies"] for row in rows) == PAIRS


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_apply_goes_on_where_it_was_stopped(world: World) -> None:
    new = world.edit(("fine in way 5", "kind and plain"))
    world.server.faults = ["500"] * 30
    said = world.ratify("apply", str(world.old), str(new), "--run", str(world.run))
    if said.code:
        assert said.err.count("\n") == 1 and "Traceback" not in said.err
    answered = world.server.answered
    world.server.faults = []
    calls, _ = world.apply(new)
    assert calls < per_principle(world) and world.server.answered == answered + calls


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_a_file_that_changes_meanwhile_is_one_sentence_and_no_label(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = world.edit(("fine in way 5", "kind and plain"))

    def meddle(*arguments: Any) -> Any:
        new.write_text(new.read_text() + "# edited meanwhile\n")
        return real(*arguments)

    real = relabel_apply.sides
    monkeypatch.setattr(relabel_apply, "sides", meddle)
    said = world.ratify("apply", str(world.old), str(new), "--run", str(world.run))
    assert said.code == 3 and "changed while it was being applied" in said.err and said.err.count("\n") == 1
    assert not list(world.run.glob("round-000/relabel/*/*"))


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_what_cannot_work_is_one_sentence(world: World, tmp_path: Path) -> None:
    new = world.edit(("fine in way 5", "kind and plain"))
    bad_gold = tmp_path / "gold.jsonl"
    bad_gold.write_text('{"a_id": "x"}\n')
    cases = {
        "what-if asks nobody": ("what-if", str(world.old), str(new), "--run", str(world.run)),
        "does not exist": ("plan", str(tmp_path / "none.yaml"), str(new), "--run", str(world.run)),
        "there is no run": ("apply", str(world.old), str(new), "--run", "none"),
        "gold.jsonl:1": ("apply", str(world.old), str(new), "--run", str(world.run), "--gold", str(bad_gold)),
    }
    for sentence, command in cases.items():
        said = world.ratify(*command)
        assert said.code != 0 and sentence in said.err and said.err.count("\n") == 1, (sentence, said)


def test_an_edit_without_a_run_is_shown_and_nothing_is_needed(tmp_path: Path, ratify: Callable[..., Any]) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(constitution_text())
    new.write_text(constitution_text().replace("fine in way 5", "kind"))
    said = ratify("plan", str(old), str(new))
    assert said.code == 0 and "to judge again: p5" in said.out


BROKEN = {
    "not valid YAML": [("principles:", "principles: [")],
    "go round in a circle (p3 → p4 → p3)": [("id: p3\n", "id: p3\n    conflicts_with: [p4]\n"),
                                            ("id: p4\n", "id: p4\n    conflicts_with: [p3]\n")],
    "unknown check type 'python'": [("id: p3\n", "id: p3\n    checks: [{type: python, code: exit()}]\n")],
    "exponentially many ways": [("id: p3\n", "id: p3\n    checks: [{type: regex_absent, pattern: (a|a)*b}]\n")],
    "this value has a YAML tag": [("id: p3\n", "id: p3\n    meta: !!python/name:os.system x\n")],
}  # fmt: skip


@pytest.mark.parametrize("protocol", ["pointwise"], indirect=True)
def test_a_broken_constitution_is_one_sentence_and_nothing_is_written(world: World) -> None:
    before, asked = sorted(world.run.rglob("*")), world.asked
    for sentence, swaps in BROKEN.items():
        new = world.edit(*swaps)
        for command in ("plan", "apply", "what-if"):
            said = world.ratify(command, str(world.old), str(new), "--run", str(world.run))
            assert said.code == 3 and sentence in said.err and "new.yaml:" in said.err, (command, said)
            assert said.err.count("\n") == 1 and "Traceback" not in said.err
    assert sorted(world.run.rglob("*")) == before and world.asked == asked


def test_the_rules_judge_relabels_to_the_same_bytes(
    tmp_path: Path, small_run: list[str], ratify: Callable[..., Any]
) -> None:
    text = (ROOT / "constitutions" / "demo.yaml").read_text()
    (tmp_path / "new.yaml").write_text(text.replace("value: 30", "value: 12").replace("id: polite", "id: kind"))
    for stage in ("generate", "label"):
        assert ratify(stage, *small_run, "prompts.train_limit=12", "--no-prefect").code == 0
    edit = ("constitutions/demo.yaml", str(tmp_path / "new.yaml"))
    said = ratify("apply", *edit, "--run", str(tmp_path / "small"))
    assert said.code == 0, said.err
    (applied,) = (tmp_path / "small" / "round-000" / "relabel").glob("*")
    whole = [
        *small_run,
        "prompts.train_limit=12",
        f"constitution={edit[1]}",
        f"store.url=sqlite:///{tmp_path}/e.sqlite",
    ]
    assert ratify("label", *whole, "--no-prefect").code == 0
    for name in ("labels.parquet", "pairs.parquet"):
        made = tmp_path / "small" / "round-000" / "label" / name
        assert (applied / name).read_bytes() == made.read_bytes()


def test_too_many_principles_are_one_sentence(tmp_path: Path, ratify: Callable[..., Any]) -> None:
    path = tmp_path / "many.yaml"
    lines = [f"  - {{id: p{number}, text: The reply is fine {number}.}}" for number in range(10_000)]
    path.write_text(constitution_text().split("principles:")[0] + "principles:\n" + "\n".join(lines) + "\n")
    said = ratify("plan", str(path), str(path))
    assert said.code == 3 and "10,000 active principles" in said.err and said.err.count("\n") == 1


def test_a_held_file_knows_that_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(constitution_text())
    held: Held = hold(path)
    held.verify()
    path.write_text(constitution_text() + "# more\n")
    with pytest.raises(Exception, match="changed while"):
        held.verify()

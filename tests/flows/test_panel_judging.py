"""Several judges in one run, against servers of known opinions: what is asked, labelled and shown."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.context import RunContext
from flows.stages import generate
from flows.stages.evaluate import facing_pairs
from flows.stages.judging import constitution_of
from flows.stages.panel_judging import judge_by_all
from flows.stages.rates import observed_rates
from flows.stages.relabel import Bench, context_of, counts
from judges.dataset import read_labels
from judges.labels import labels_of
from ratify.config import load_config, resolved_json
from ratify.errors import ConfigError
from ratify.run_store import RunStore
from ratify.types import Label
from ratify.verdict_store import VerdictStore
from tests.judges.fake_server import FakeServer

RUN = Callable[..., Any]


def opinion(text: str) -> float:
    """Log-odds that depend on nothing but the text, between −3 and 3."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32 * 6 - 3


def answering(sign: float) -> Callable[[str], dict[str, float]]:
    """A judge that holds this opinion, or the contrary one."""

    def answer(text: str) -> dict[str, float]:
        z = sign * opinion(text)
        first, second = ("A", "B") if "Reply A:" in text else ("Yes", "No")
        return {first: -math.log1p(math.exp(-z)), second: -math.log1p(math.exp(z))}

    return answer


@contextmanager
def servers(*signs: float) -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer(answering(sign))) for sign in signs]


def panel_of(found: list[FakeServer], small_run: list[str], *more: str, fields: str = "") -> list[str]:
    """The run's arguments with the first server as `[judge]` and the others as further judges."""
    plain = [argument for argument in small_run if argument != "judge.kind=rules"]
    names = [
        f'{{name="judge{place}", model="fake", base_url="{each.url}"{fields}}}'
        for place, each in enumerate(found[1:], 2)
    ]
    return [
        *plain, "prompts.train_limit=8", f"judge.base_url={found[0].url}", "judge.model=fake",
        f"panel.judges=[{', '.join(names)}]", *more, "--no-prefect",
    ]  # fmt: skip


def folder_of(arguments: list[str]) -> Path:
    (folder,) = (each.removeprefix("run.dir=") for each in arguments if each.startswith("run.dir="))
    return Path(folder) / "small" / "round-000" / "label"


def label(ratify: RUN, arguments: list[str]) -> tuple[list[Label], dict[str, Any]]:
    assert ratify("generate", *arguments).code == 0
    said = ratify("label", *arguments)
    assert said.code == 0, said.err
    folder = folder_of(arguments)
    return read_labels(folder / "labels.parquet"), json.loads((folder / "manifest.json").read_text())


def test_all_judges_are_asked_once_and_their_log_odds_are_averaged(ratify: RUN, small_run: list[str]) -> None:
    """Labels by a plain loop over the store: the mean of three, of which two are one opinion and one is the contrary,
    is a third of the first judge's."""
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run)
        labels, manifest = label(ratify, arguments)
        counts = [server.judged for server in found]
    metrics = manifest["metrics"]
    assert counts[0] > 0 and len(set(counts)) == 1 and len(set(found[0].texts)) == counts[0]
    assert metrics["label/calls/count"] == sum(counts) and metrics["label/panel/judge2/calls/count"] == counts[1]
    assert metrics["label/panel/calls/saved"] == 0
    store = VerdictStore.in_folder(folder_of(arguments).parent.parent)
    verdicts = store.get({key for each in labels for key in each.verdict_keys})
    store.close()
    compared = 0
    seats = {seat["judge"]: seat["name"] for seat in manifest["lineage"]["panel"]["judges"]}
    for each in labels:
        z: dict[tuple[str, str], list[float]] = {}
        for key in each.verdict_keys:
            said = verdicts[key]
            z.setdefault((said.principle, said.first_id), []).append(said.logit or 0.0)
        for principle, lead in each.by_principle.items():
            a, b = z.get((principle, each.a_id), []), z.get((principle, each.b_id), [])
            if len(a) == len(b) == 3:
                assert lead == pytest.approx((sum(a) - sum(b)) / 3, abs=1e-6)
                compared += 1
    assert compared > 50
    assert {seats[said.judge] for said in verdicts.values()} == {"first", "judge2", "judge3"}
    speeds = [observed_rates(RunStore(folder_of(arguments).parent.parent), judge)[0].calls_per_s for judge in seats]
    assert speeds == [metrics[f"label/panel/{name}/calls/per_s"] for name in seats.values()]


def test_agreement_of_known_judges_is_measured_and_shown(ratify: RUN, small_run: list[str]) -> None:
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run, "gold.canaries=10")
        _, manifest = label(ratify, arguments)
    folder, metrics = folder_of(arguments), manifest["metrics"]
    panel = json.loads((folder / "judge.json").read_text())["panel"]
    assert [seat["name"] for seat in panel["seats"]] == ["first", "judge2", "judge3"]
    for row in panel["rows"]:
        kappa = {name: each["value"] for name, each in row["kappa"].items()}
        assert kappa == {"first and judge2": 1.0, "first and judge3": -1.0, "judge2 and judge3": -1.0}
        assert row["among"]["raw agreement"]["value"] == pytest.approx(1 / 3)
        assert metrics[f"label/panel/agreement/{row['principle']}/cohen_kappa_first_and_judge2"] == 1.0
        assert "low" in row["among"]["Krippendorff alpha"] and row["complete"] == row["views"]
    one, other = (metrics[f"label/panel/{name}/gold/agreement"] for name in ("first", "judge2"))
    assert one == other and metrics["label/gold/pairs"] == 10
    page = (folder / "judge.html").read_text()
    assert "The panel. Labels come from the weighted mean" in page and "first and judge3" in page
    assert json.loads((folder / "judges/judge3/judge.json").read_text())["canaries"] == 10


def test_a_settled_vote_is_not_asked_further(ratify: RUN, small_run: list[str]) -> None:
    """Two equal opinions settle a vote of three, so that the third judge is never asked; the outcomes are the same."""
    with servers(1, 1, -1) as found:
        patient, _ = label(ratify, panel_of(found, small_run, "panel.combine=vote"))
        asked = found[2].judged
    with servers(1, 1, -1) as again:
        arguments = panel_of(again, small_run, "panel.combine=vote", "panel.stop_settled=true")
        labels, manifest = label(ratify, arguments)
        assert [server.judged for server in again] == [asked, asked, 0]
    assert manifest["metrics"]["label/panel/calls/saved"] == asked > 0
    sides = [(each.a_id, each.b_id, {name: z > 0 for name, z in each.by_principle.items()}) for each in labels]
    assert sides == [(e.a_id, e.b_id, {name: z > 0 for name, z in e.by_principle.items()}) for e in patient]


def test_sure_judges_settle_a_mean_and_unsure_ones_do_not(ratify: RUN, small_run: list[str]) -> None:
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run, "panel.stop_settled=true", "panel.agree_above=2.5")
        _, manifest = label(ratify, arguments)
        first, _, third = (server.judged for server in found)
    assert 0 < third < first and manifest["metrics"]["label/panel/calls/saved"] == first - third


def test_a_stopped_panel_goes_on_without_asking_anything_twice(ratify: RUN, small_run: list[str]) -> None:
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run)
        assert ratify("generate", *arguments).code == 0
        estimate = json.loads(ratify("estimate", *arguments[:-1], "--json").out)
        limit = estimate["calls"] // 2
        stopped = ratify("label", *arguments[:-1], f"budget.requests={limit}", "--no-prefect")
        assert stopped.code == 9 and "judge 'judge2' of the panel: judging stopped by the budget" in stopped.err
        assert sum(server.judged for server in found) == limit
        assert not (folder_of(arguments) / "manifest.json").exists()
        said = ratify("label", *arguments)
        assert said.code == 0 and sum(server.judged for server in found) == estimate["calls"]
        assert all(len(set(server.texts)) == server.judged for server in found)
        ratify("label", *arguments)
        assert sum(server.judged for server in found) == estimate["calls"]


def test_a_pairwise_panel_by_dawid_skene_follows_its_majority(ratify: RUN, small_run: list[str]) -> None:
    """Two equal judges against one: belief goes to the two, and every verdict of all three is in the label."""
    fields = ', protocol="pairwise", max_same_position=1'
    pairwise = ("judge.protocol=pairwise", "judge.max_same_position=1", "panel.combine=dawid_skene")
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run, *pairwise, fields=fields)
        labels, manifest = label(ratify, arguments)
    store = VerdictStore.in_folder(folder_of(arguments).parent.parent)
    verdicts = store.get({key for each in labels for key in each.verdict_keys})
    store.close()
    first, _, third = (seat["judge"] for seat in manifest["lineage"]["panel"]["judges"])
    for each in labels:
        mine = [verdicts[key] for key in each.verdict_keys]
        for principle, lead in each.by_principle.items():
            z = {(v.judge, v.first_id): v.logit or 0.0 for v in mine if v.principle == principle}
            if z:
                leans = z[first, each.a_id] - z[first, each.b_id]
                assert (lead > 0) == (leans > 0) and z[third, each.a_id] == pytest.approx(-z[first, each.a_id])
    assert len(verdicts) == sum(server.judged for server in found)
    assert manifest["metrics"]["label/panel/judge3/order/compared"] > 0


def test_an_estimate_counts_all_judges_and_says_when_it_is_a_bound(ratify: RUN, small_run: list[str]) -> None:
    with servers(1, -1) as found:
        arguments = panel_of(found, small_run)[:-1]
        assert ratify("generate", *arguments, "--no-prefect").code == 0
        alone = json.loads(ratify("estimate", *arguments, "panel.judges=[]", "--json").out)
        both = json.loads(ratify("estimate", *arguments, "--json").out)
        assert both["calls"] == 2 * alone["calls"] and both["counted"] and "panel" not in alone
        said = ratify("estimate", *arguments, "panel.stop_settled=true", "panel.combine=vote")
        assert f"judge calls: at most {both['calls']:,}" in said.out and "every figure is an upper bound" in said.out


def test_a_run_without_a_panel_does_not_know_of_panels(ratify: RUN, small_run: list[str]) -> None:
    _, manifest = label(ratify, [*small_run, "--no-prefect"])
    folder = folder_of(small_run)
    texts = [(folder / "judge.json").read_text(), (folder.parent.parent / "config.json").read_text()]
    assert not any('"panel"' in text for text in texts) and "panel" not in manifest["lineage"]
    assert not any("panel" in key for key in manifest["metrics"]) and not (folder / "judges").exists()
    assert "panel" not in resolved_json(load_config(Path(small_run[0])))


@pytest.mark.parametrize(
    ("protocol", "more"),
    [
        (
            "pointwise",
            ["panel.stop_settled=true", "panel.agree_above=1", "gold.canaries=40", "gold.calibrate=temperature"],
        ),
        ("pairwise", ["panel.combine=vote", "panel.stop_settled=true", "labels.principles_per_pair=2"]),
        ("pairwise", ["panel.combine=dawid_skene"]),
    ],
    ids=["settled mean, calibrated", "settled vote, drawn", "dawid_skene"],
)
def test_relabelling_makes_the_labels_of_the_panel(
    protocol: str, more: list[str], ratify: RUN, small_run: list[str]
) -> None:
    """Bit for bit those of the label stage from the same verdicts; and an edit asks its judges what it would ask."""
    settings = [f"judge.protocol={protocol}", "judge.max_same_position=1", *more]
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run, *settings, fields=f', protocol="{protocol}", max_same_position=1')
        labels, _ = label(ratify, arguments)
        stage, run, asked = folder_of(arguments), folder_of(arguments).parent.parent, [each.judged for each in found]
        context = context_of(run)
        rules = constitution_of(context)
        with Bench(context) as bench:
            assert not counts(bench.missing(rules))
            evidence = bench.evidence(rules)
            assert labels_of(bench.labelled(rules, evidence, bench.aggregate(rules, evidence))) == labels
        old, new = Path("constitutions/demo.yaml"), run.parent / "edited.yaml"
        new.write_text(
            old.read_text().replace("The reply is polite and respectful.", "The reply is courteous and kind.")
        )
        plan = json.loads(ratify("plan", str(old), str(new), "--run", str(run), "--sample", "0", "--json").out)
        assert [each.judged for each in found] == asked and set(plan["calls_by_principle"]) == {"polite"}
        said = ratify("apply", str(old), str(new), "--run", str(run))
        assert said.code == 0, said.err
        paid = sum(each.judged for each in found) - sum(asked)
        assert 0 < paid <= plan["calls"] and all(len(set(each.texts)) == each.judged for each in found)
        assert "panel.stop_settled=true" in more or paid == plan["calls"]
        applied = next((stage.parent / "relabel").glob("*/labels.parquet")).read_bytes()
        kept = [*arguments[:-1], f"constitution={new}", "gold.canaries=0", "gold.calibrate=none", "--no-prefect"]
        said = ratify("label", *kept)
        assert said.code == 0 and sum(each.judged for each in found) == sum(asked) + paid
    assert "gold.canaries=40" in more or (stage / "labels.parquet").read_bytes() == applied


def test_the_noise_floor_of_a_panel_is_refused(ratify: RUN, small_run: list[str]) -> None:
    with servers(1, 1) as found:
        arguments = panel_of(found, small_run)
        label(ratify, arguments)
        run = folder_of(arguments).parent.parent
        same = "constitutions/demo.yaml"
        said = ratify("apply", same, same, "--run", str(run), "--noise", "10")
    assert said.code != 0 and "the noise floor is measured for one judge" in said.err


def test_evaluation_is_judged_by_the_whole_panel(ratify: RUN, small_run: list[str], tmp_path: Path) -> None:
    """The panel's labels of any pairs; a stage that is not `label` has no canaries."""
    with servers(1, 1, -1) as found:
        arguments = panel_of(found, small_run, "gold.canaries=10")
        assert ratify("generate", *arguments).code == 0
        context = RunContext(load_config(Path(arguments[0]), arguments[1:-1]))
        prompts = {each.id: each for each in generate.heldout_prompts(context)}
        replies = generate.heldout_completions(context)
        pairs = facing_pairs(replies, [each.model_copy(update={"id": f"{each.id}/new", "text": f"Yes. {each.text}"})
                                       for each in replies])  # fmt: skip
        judged = judge_by_all(context, prompts, pairs, log_path=tmp_path / "judge.log", stage="evaluate")
        asked = [server.judged for server in found]
    assert len({verdict.judge for verdict in judged.verdicts}) == 3 and len(set(asked)) == 1
    assert (
        judged.metrics["evaluate/calls/count"] == sum(asked) == 3 * judged.metrics["evaluate/panel/judge2/calls/count"]
    )
    assert not any("gold" in key or key.startswith("label/") for key in judged.metrics)
    by_key = {verdict.key: verdict for verdict in judged.verdicts}
    for each in judged.labels:
        mine = [by_key[key] for key in each.verdict_keys]
        for principle, lead in each.by_principle.items():
            a, b = ([v.logit or 0.0 for v in mine if v.principle == principle and v.first_id == side]
                    for side in (each.a_id, each.b_id))  # fmt: skip
            assert len(a) == len(b) == 3 and lead == pytest.approx((sum(a) - sum(b)) / 3, abs=1e-6)
    assert len(judged.labels) == len(pairs) > 5


def test_the_same_judge_twice_is_refused(ratify: RUN, small_run: list[str]) -> None:
    with servers(1) as (server,):
        said = ratify("label", *panel_of([server, server], small_run))
    assert said.code != 0 and "'first' and 'judge2' are the same judge" in said.err


@pytest.mark.parametrize(
    ("panel", "sentence"),
    [
        (['panel.judges=[{name="x", model="m", protocol="pairwise"}]'], "must be asked in the same way"),
        (['panel.judges=[{name="first", model="m"}]'], "called 'first'"),
        (['panel.judges=[{name="x", kind="rules"}]'], "kind 'rules' has no seat"),
        (['panel.judges=[{name="x", model="m"}]', "panel.combine=dawid_skene"], "three judges or more"),
        (['panel.judges=[{name="x", model="m"}]', "judge.kind=rules"], "judge.kind is 'rules'"),
        (['panel.judges=[{name="x", model="m", wieght=2}]'], "did you mean 'weight'"),
    ],
)
def test_what_cannot_be_a_panel_is_one_sentence(panel: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(Path("configs/demo.toml"), panel)

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

from flows.stages.rates import observed_rates
from flows.stages.relabel import Bench, context_of
from judges.dataset import read_labels
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


def test_relabelling_with_a_panel_is_refused(ratify: RUN, small_run: list[str]) -> None:
    with servers(1, 1) as found:
        arguments = panel_of(found, small_run)
        label(ratify, arguments)
    with pytest.raises(ConfigError, match=r"labelled by a panel, and plan, apply and what-if work with one judge"):
        Bench(context_of(folder_of(arguments).parent.parent))


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

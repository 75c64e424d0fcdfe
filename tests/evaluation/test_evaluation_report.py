"""The whole report: figures from known evidence, parts that are missing, a page that is safe and offline."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from evaluation.catalog import quantity, show, split_key
from evaluation.charts import Mark, Scale, axis, curve, interval_row, nice_scale, thin
from evaluation.html_report import minutes, render_html, write_html
from evaluation.intervals import Estimate, EvidenceError
from evaluation.report import JudgedSet, read_report, write_report
from evaluation.summary import numeric_rows, summarise
from evaluation.terminal import plain_text, print_report
from evaluation.views import comparisons, tick_labels
from ratify.errors import StoreError

OPTIONAL = {
    "heldout": JudgedSet(), "training": JudgedSet(), "properties": {}, "scored": (), "rewards": {},
    "constitution": None,
    "curves": {}, "stages": (),
}  # fmt: skip
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Tree(HTMLParser):
    """Checks that tags close, and keeps what was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def tree(page: str) -> Tree:
    parser = Tree()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def report(evidence):
    return summarise(evidence)


def test_figures_of_known_evidence(report) -> None:
    metrics = report.metrics
    assert metrics["evaluate/compliance.polite/new"].value == pytest.approx(0.9, abs=0.05)
    assert metrics["evaluate/compliance.honest/difference"].high < 0
    assert metrics["evaluate/win_rate.all/rate"].low > 0.5
    assert metrics["evaluate/kl/k1_per_reply"].value == pytest.approx(0.8, abs=0.2)
    assert metrics["label/verdicts.all/accuracy"].value == pytest.approx(0.914, abs=0.02)
    assert metrics["reward_model/reward_accuracy/heldout"].low > 0.5
    assert all(len(key.split("/")) == 3 for key in (*metrics, *report.counts))


def test_sentences_name_the_gain_and_the_loss(report) -> None:
    assert report.conclusion[0].startswith("The new policy meets all five properties on ")
    assert report.conclusion[0].endswith(": a real gain.")
    assert any("Fewer replies are honest" in warning for warning in report.warnings)


def test_report_survives_its_file(report, tmp_path) -> None:
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path / "report.json") == report
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(StoreError, match="run the evaluation again"):
        read_report(tmp_path / "report.json")


def test_missing_figures_say_why(evidence) -> None:
    found = summarise(replace(evidence, **OPTIONAL))
    assert set(found.missing) >= {"compliance", "win_rate", "kl", "truth_agreement", "reward_model"}
    assert not any(key.startswith("evaluate/win_rate") for key in found.metrics)
    assert found.conclusion == ("There is no evidence on which to compare the two policies.",)
    assert {sample.outcome for sample in found.samples} == {"unjudged"}


def test_kl_of_a_part_of_the_replies_is_no_evidence(evidence) -> None:
    found = summarise(replace(evidence, scored=evidence.scored[:10]))
    assert "10 of 340" in found.missing["kl"]


def test_shared_completion_ids_are_refused(evidence) -> None:
    with pytest.raises(EvidenceError, match="belongs to both"):
        summarise(replace(evidence, new=evidence.old))


def test_win_without_truth_warns(evidence) -> None:
    swapped = {
        name: dict.fromkeys(met, True) if "/old/" in name else dict.fromkeys(met, False)
        for name, met in evidence.properties.items()
    }
    found = summarise(replace(evidence, properties=swapped))
    assert any("pleases the judge" in warning for warning in found.warnings)


def test_samples_are_sorted_and_unique(report) -> None:
    gains = [sample.margin for sample in report.samples if sample.group == "gain"]
    losses = [sample.margin for sample in report.samples if sample.group == "loss"]
    assert gains == sorted(gains, reverse=True) and min(gains) > 0
    assert losses == sorted(losses) and max(losses) < 0
    assert len({(sample.prompt_id, sample.old, sample.new, sample.margin) for sample in report.samples}) == 24


def test_numeric_rows_drop_text_and_nan() -> None:
    rows = numeric_rows([{"step": 4, "loss": 1, "note": "x", "kl": float("nan"), "done": True}, {"loss": 2.0}])
    assert rows == ({"step": 4.0, "loss": 1.0}, {"step": 1.0, "loss": 2.0})


@pytest.mark.parametrize("absent", [*OPTIONAL, "all"])
def test_page_renders_without(absent: str, evidence) -> None:
    gone = OPTIONAL if absent == "all" else {absent: OPTIONAL[absent]}
    page = render_html(summarise(replace(evidence, how=evidence.how._replace(draws=50), **gone)))
    tree(page)
    assert "None" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)


def test_page_of_one_prompt_renders(make_evidence) -> None:
    tree(render_html(summarise(make_evidence(prompts=1, draws=50))))


def test_page_is_offline(report) -> None:
    seen = tree(render_html(report)).seen
    assert not {tag for tag, _ in seen} & {"script", "link", "img", "iframe", "object", "embed", "use", "image"}
    assert not [value for _, given in seen for name, value in given.items() if name in {"src", "href", "xlink:href"}]
    page = render_html(report)
    assert "url(" not in page and "@import" not in page and "//" not in page.replace("</", "")


def test_completions_cannot_inject(evidence) -> None:
    attack = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>\"'{{ 7 * 7 }}"
    old = [reply.model_copy(update={"text": attack}) for reply in evidence.old]
    hostile = replace(
        evidence, old=old, identity=evidence.identity.model_copy(update={"run": attack}),
        curves={attack: [{"step": 0, attack: 1.0}, {"step": 1, attack: 2.0}]},
    )  # fmt: skip
    page = render_html(summarise(hostile))
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page and "49</" not in page.split("Replies to read")[1][:2000]
    tree(page)


def test_page_is_written_within_the_budget(report, tmp_path) -> None:
    started = time.process_time()
    write_html(tmp_path / "report.html", report)
    assert time.process_time() - started < 5
    assert (tmp_path / "report.html").stat().st_size < 400_000


def test_plain_text_for_files(report) -> None:
    text = plain_text(report)
    assert "\x1b" not in text
    assert "all five properties" in text.replace("\n", " ")
    assert max(len(line) for line in text.splitlines()) <= 100


def test_terminal_prints_the_same_figures(report) -> None:
    console = Console(force_terminal=True, width=110, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_report(report, console)
    console.file.close()
    shown = console.export_text()
    for row in comparisons(report):
        assert row.new.value in shown


def test_values_as_people_write_them() -> None:
    assert show(0.3421, quantity("compliance")) == "34.2\N{NO-BREAK SPACE}%"
    assert show(-0.05, quantity("compliance"), signed=True) == "\N{MINUS SIGN}5.0\N{NO-BREAK SPACE}pts"
    assert minutes(185.2) == "3\N{NO-BREAK SPACE}min 5\N{NO-BREAK SPACE}s"
    assert split_key("evaluate/compliance.no.doxxing/new").part == "no.doxxing"


def test_scale_has_round_ticks_and_keeps_its_limits() -> None:
    scale = nice_scale([0.71, 0.93], floor=0.0, ceiling=1.0)
    assert scale.ticks == pytest.approx((0.7, 0.8, 0.9))
    assert nice_scale([0.0, 0.01], floor=0.0).low == 0.0
    assert nice_scale([5.0, 5.0]).low < 5.0 < nice_scale([5.0, 5.0]).high
    assert tick_labels(Scale(0, 1, (0.0, 0.25, 0.5)), quantity("kl")) == ["0.00", "0.25", "0.50"]


def test_dots_lie_where_they_should() -> None:
    found = Estimate(value=0.25, low=0.2, high=0.5, n=9, clusters=9, confidence=0.95)
    svg = interval_row([Mark(found, "new", "a <b> quarter")], Scale(0, 1, (0.0, 1.0)))
    assert 'cx="25%"' in svg and 'x1="20%" x2="50%"' in svg and "&lt;b&gt;" in svg
    bare = interval_row([Mark(found.model_copy(update={"low": None}), "new", "")], Scale(0, 1, ()))
    assert "whisker" not in bare
    assert "translateX" in axis(Scale(0, 1, (0.0, 1.0)), ["0", "1"])


def test_curves_are_thinned_with_their_ends() -> None:
    points = [(float(at), float(at)) for at in range(10_000)]
    assert thin(points)[0] == points[0] and thin(points)[-1] == points[-1] and len(thin(points)) <= 240
    assert "0,100 100,0" in curve([(0, 0), (5, 1)], Scale(0, 1, ()), "up")

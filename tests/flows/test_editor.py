"""The page's server: what it says of a draft is what the command line says of the file, saving loses nothing, and
nobody but the page may ask.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from constitutions.load import load_constitution
from flows.editor.edited_file import EditedFile
from flows.editor.guard import TOKEN_HEADER
from flows.editor.live_run import LiveRun, costs_by_principle
from flows.editor.server import STATIC, Editor, make_app
from flows.stages.relabel import Bench, context_of
from flows.stages.relabel_apply import gold_of
from ratify.lineage import ROOT

TEXT = """# the head
schema: constitution/v1
id: x
version: 1.0.0  # raise me
aggregate: {min_margin: 0.1}  # flow
tiers: [high, low]

principles:
  # about p
  - id: p
    tier: high
    text: >-
      The reply
      is kind.
    weight: 1  # one
    checks:
      - {type: max_words, value: 3}  # short

  - {id: q, text: "The reply is true."}  # q
"""
ADDRESS = "http://127.0.0.1:8000"
FORM = ("origin", "id", "text", "weight", "tier", "severity", "status")


class Page:
    """What the page does, without a browser."""

    def __init__(self, editor: Editor) -> None:
        self.client = TestClient(make_app(editor, "token"), base_url=ADDRESS, headers={TOKEN_HEADER: "token"})
        self.file = self.client.get("/api/file").json()
        self.rows: list[dict[str, Any]] | None = None
        self.more: dict[str, Any] = {}
        self.base = self.file["text"]

    def fill(self) -> list[dict[str, Any]]:
        """The form's rows, to be changed in place."""
        checked = self.ask("check")
        self.rows = [{name: row[name] for name in FORM} for row in checked["principles"]]
        return self.rows

    @property
    def draft(self) -> dict[str, Any]:
        return {"baseline": self.file["baseline"], "base": self.base, "principles": self.rows, **self.more}

    def ask(self, what: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/{what}", json=body or self.draft)
        said = answer.json()
        return {**said, "status": answer.status_code}

    def save(self) -> dict[str, Any]:
        return self.ask("save", draft=self.draft, stamp=self.file["stamp"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def page(file: Path) -> Page:
    return Page(Editor(EditedFile(file)))


@pytest.fixture
def gold(labelled_run: Path, tmp_path: Path) -> Path:
    """Reply a is the better one of each pair."""
    path = tmp_path / "gold.jsonl"
    rows = [{"a_id": a.id, "b_id": b.id, "better": "a"} for a, b in Bench(context_of(labelled_run)).pairs]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def live(labelled_run: Path, gold: Path) -> Iterator[LiveRun]:
    with Bench(context_of(labelled_run)) as bench:
        run = LiveRun(bench, gold_of(bench, gold))
        run.start(load_constitution(ROOT / "constitutions" / "demo.yaml"))
        assert run.ready.wait(60) and not run.fault
        yield run


@pytest.fixture
def demo_page(tmp_path: Path, live: LiveRun) -> Page:
    path = tmp_path / "demo.yaml"
    path.write_text((ROOT / "constitutions" / "demo.yaml").read_text())
    return Page(Editor(EditedFile(path), live))


def test_lint_is_said_as_one_types_at_its_principle(page: Page) -> None:
    rows = page.fill()
    assert page.ask("check")["findings"] == []
    rows[1]["text"] = "The reply is always good."
    findings = page.ask("check")["findings"]
    assert [(each["code"], each["principle"]) for each in findings] == [
        ("low-version", None), ("absolute-word", 1), ("vague-word", 1),
    ]  # fmt: skip
    assert findings[1]["line"] == 19 and findings[1]["why"] and findings[1]["remedy"]


def test_an_edit_names_its_meaning_and_the_version_it_needs(page: Page) -> None:
    rows = page.fill()
    rows[0]["weight"], rows[1]["id"] = 2.5, "truthful"
    checked = page.ask("check")
    assert [(each["kind"], each["principle"], each["field"]) for each in checked["changes"]] == [
        ("changed", "p", "weight"), ("renamed", "truthful", ""),
    ]  # fmt: skip
    assert (checked["bump"], checked["least"], checked["rejudged"]) == ("minor", "1.1.0", [])
    page.more = {"version": "1.1.0"}
    assert page.ask("check")["version_fault"] is None


@pytest.mark.parametrize(
    ("base", "line", "sentence"),
    [
        (TEXT.replace("tier: high", "tier: hihg"), 11, "unknown tier 'hihg'"),
        (TEXT.replace("aggregate: {", "aggregate: ["), 5, "not valid YAML"),
        (TEXT.replace("weight: 1 ", "weight: -1 "), 15, "greater than or equal to 0"),
        ("", 1, "the file is empty"),
    ],
)
def test_a_text_that_does_not_load_is_one_sentence_with_its_line(
    page: Page, base: str, line: int, sentence: str
) -> None:
    page.base = base
    fault = page.ask("check")["fault"]
    assert fault["line"] == line and sentence in fault["sentence"] and "\n" not in fault["sentence"]
    assert page.ask("what-if")["state"] == "no run"
    assert page.save()["status"] == 422
    assert Path(page.file["path"]).read_text() == TEXT


def test_a_wrong_value_in_the_form_is_a_fault_of_its_principle(page: Page) -> None:
    rows = page.fill()
    rows[1]["text"] = "   "
    fault = page.ask("check")["fault"]
    assert fault["principle"] == 1 and "it is empty" in fault["sentence"]
    rows[1]["text"], rows[0]["weight"] = "The reply is true.", "a lot"
    assert page.ask("check")["fault"]["principle"] == 0


def test_saving_keeps_every_comment_and_every_other_line(page: Page, file: Path) -> None:
    rows = page.fill()
    rows[0] |= {"text": "The reply is warm and plain to a person who asks.", "weight": 2}
    rows[1] |= {"id": "truthful", "severity": "hard"}
    rows.append({"origin": None, "id": "brief", "text": "The reply is brief.", "weight": 1, "tier": "low",
                 "severity": "soft", "status": "active"})  # fmt: skip
    page.more = {"version": "1.1.0", "settings": {"aggregate.min_margin": 0.2}}
    said = page.save()
    assert said["status"] == 200 and said["text"] == file.read_text()
    assert (
        file.read_text()
        == """# the head
schema: constitution/v1
id: x
version: 1.1.0  # raise me
aggregate: {min_margin: 0.2}  # flow
tiers: [high, low]

principles:
  # about p
  - id: p
    tier: high
    text: >-
      The reply is warm and plain to a person who asks.
    weight: 2  # one
    checks:
      - {type: max_words, value: 3}  # short

  - {id: truthful, was: q, severity: hard, text: "The reply is true."}  # q

  - id: brief
    tier: low
    text: The reply is brief.
"""
    )
    assert not list(file.parent.glob(".*.tmp"))


def test_a_change_that_is_taken_back_leaves_no_trace(page: Page) -> None:
    rows = page.fill()
    kept = [dict(row) for row in rows]
    rows[0]["weight"] = 3
    assert page.ask("check")["text"] != TEXT
    page.rows = kept
    assert page.ask("check")["text"] == TEXT


def test_a_second_rename_names_the_id_of_the_version_that_is_compared_with(file: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.yaml"
    earlier.write_text(TEXT)
    file.write_text(TEXT.replace("{id: q,", "{id: truthful, was: q,"))
    page = Page(Editor(EditedFile(file), against=earlier))
    page.fill()[1]["id"] = "honest"
    checked = page.ask("check")
    assert "{id: honest, was: q," in checked["text"] and checked["changes"][0]["old"] == "q"


def test_a_rename_is_followed_where_other_principles_name_it(file: Path) -> None:
    file.write_text(TEXT.replace("    weight: 1  # one", "    conflicts_with: [q]  # gives way"))
    page = Page(Editor(EditedFile(file)))
    page.fill()[1]["id"] = "honest"
    checked = page.ask("check")
    assert checked["fault"] is None and "conflicts_with: [honest]  # gives way" in checked["text"]


def test_a_file_that_does_not_load_is_shown_as_text_and_can_be_mended(file: Path) -> None:
    file.write_text(TEXT.replace("weight: 1 ", "weight: x "))
    page = Page(Editor(EditedFile(file)))
    checked = page.ask("check")
    assert checked["fault"]["line"] == 15 and not checked["compared"] and "principles" not in checked
    page.base = TEXT
    assert page.ask("check")["changes"] == []
    assert page.save()["status"] == 200 and file.read_text() == TEXT


def test_line_ends_permissions_and_links_survive_a_save(file: Path) -> None:
    file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    file.chmod(0o664)
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    page = Page(Editor(EditedFile(link)))
    page.fill()[0]["weight"] = 4
    assert page.save()["status"] == 200
    assert file.read_bytes() == TEXT.replace("weight: 1 ", "weight: 4 ").replace("\n", "\r\n").encode()
    assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o664


def test_a_file_that_changed_on_disk_is_not_overwritten(page: Page, file: Path) -> None:
    page.fill()[0]["weight"] = 4
    file.write_text(TEXT + "# mine\n")
    said = page.save()
    assert (said["status"], said["kind"]) == (409, "changed") and "has changed on disk" in said["fault"]
    assert file.read_text() == TEXT + "# mine\n"
    assert page.client.get("/api/stamp").json()["stamp"] != page.file["stamp"]


def test_of_two_saves_at_once_one_is_refused(page: Page) -> None:
    page.fill()[0]["weight"] = 4
    said: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: said.append(page.save())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each["status"] for each in said) == [200, 409]


def test_what_if_and_plan_say_what_the_command_line_says(
    demo_page: Page, labelled_run: Path, gold: Path, tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    rows = demo_page.fill()
    rows[3]["weight"], rows[1]["severity"] = 6, "hard"
    rows[4]["id"] = "brief"
    del rows[2]
    demo_page.more = {"settings": {"aggregate.clamp": [0.1, 0.9]}}
    new = tmp_path / "new.yaml"
    new.write_text(demo_page.ask("check")["text"])
    edit = (str(ROOT / "constitutions" / "demo.yaml"), str(new), "--run", str(labelled_run), "--json")
    shown, figures = demo_page.ask("what-if"), json.loads(ratify("what-if", *edit, "--gold", str(gold)).out)
    assert shown["state"] == "ready" and shown["changed"] > 0 and shown["gold"] is not None
    for name in ("pairs", "changed", "changes", "vetoed", "by_tag", "gold"):
        assert shown[name] == figures[name], name
    assert shown["flips"] == figures["flips"][: len(shown["flips"])]
    assert shown["moved"] == {row["principle"]: row["moved"] for row in figures["principles"]}
    assert shown["stood_in"] == shown["left_out"] == []
    planned = demo_page.ask("plan")
    said = json.loads(ratify("plan", *edit, "--sample", "0").out)
    assert planned["calls"] == said["calls"] and planned["flip_rate"] == said["flip_rate"]


def test_the_balance_is_each_tiers_share_of_all_that_moves_labels(demo_page: Page) -> None:
    rows = demo_page.fill()
    before = {row["name"]: row["before"] for row in demo_page.ask("what-if")["balance"]["tier"]}
    assert sum(before.values()) == pytest.approx(1)
    for row in rows:
        row["weight"] = 1 if row["tier"] == "manner" else 0
    after = {row["name"]: row["after"] for row in demo_page.ask("what-if")["balance"]["tier"]}
    assert after["manner"] == pytest.approx(1) and sum(after.values()) == pytest.approx(1)


def test_what_only_a_judge_can_say_is_named_and_not_guessed(demo_page: Page) -> None:
    rows = demo_page.fill()
    rows[3]["text"] = "The reply is courteous."
    rows.append({"origin": None, "id": "sourced", "text": "The reply cites a source.", "weight": 5, "tier": None,
                 "severity": "soft", "status": "active"})  # fmt: skip
    shown = demo_page.ask("what-if")
    assert shown["stood_in"] == ["polite"] and shown["left_out"] == ["sourced"]
    assert shown["changed"] == 0


def test_a_run_without_any_verdict_is_one_sentence_and_not_a_row_of_zeros(page: Page, live: LiveRun) -> None:
    unjudged = TEXT.replace("value: 3}", "value: 4}").replace("The reply is true.", "The reply is sourced.")
    unjudged = unjudged.replace(
        '"The reply is sourced."', '"The reply is sourced.", checks: [{type: min_words, value: 9}]'
    )
    file = Path(page.file["path"])
    file.write_text(unjudged)
    said = Page(Editor(EditedFile(file), live)).ask("what-if")
    assert said["state"] == "fault" and "holds no verdicts" in said["fault"] and "--against" in said["fault"]


def test_a_plan_names_what_each_principle_costs(demo_page: Page, live: LiveRun) -> None:
    figures = {
        "calls_by_principle": {"p": 30, "q": 60},
        "observed": {"calls_per_s": 10.0, "prompt_tokens": 40.0, "completion_tokens": 1.0},
    }
    assert costs_by_principle(figures) == [
        {"principle": "p", "calls": 30, "tokens": 1230, "minutes": 0.05},
        {"principle": "q", "calls": 60, "tokens": 2460, "minutes": 0.1},
    ]
    stored = live.bench.store.count()
    demo_page.base = demo_page.base.replace("type: max_words, value: 30", "type: max_words, value: 12")
    planned = demo_page.ask("plan")
    assert list(planned["calls_by_principle"]) == ["concise"] and planned["calls"] == planned["left"] > 0
    assert planned["by_principle"][0]["calls"] == planned["calls"] and live.bench.store.count() == stored


def test_without_a_run_the_rest_works_and_says_what_would_be_judged(page: Page) -> None:
    page.fill()[1]["text"] = "The reply is brief."
    assert page.file["run"] is None and page.ask("what-if")["state"] == "no run"
    planned = page.ask("plan")
    assert planned["state"] == "no run" and planned["rejudged"] == ["q"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::1]", ""])
def test_another_host_name_is_refused_even_with_the_token(page: Page, host: str) -> None:
    for path in ("/", "/static/app.js", "/api/file"):
        assert page.client.get(path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("token", [None, "", "tokem", "токен"])
def test_without_the_token_nothing_is_read_or_written(page: Page, file: Path, token: str | None) -> None:
    stranger = TestClient(page.client.app, base_url=ADDRESS)
    headers = {} if token is None else {TOKEN_HEADER.encode(): token.encode()}
    page.fill()[0]["weight"] = 4
    for path in ("file", "stamp"):
        assert stranger.get(f"/api/{path}", headers=headers).status_code == 403
    body = {"draft": page.draft, "stamp": page.file["stamp"]}
    for path in ("save", "check", "plan", "what-if"):
        answer = stranger.post(f"/api/{path}", json=body, headers=headers)
        assert answer.status_code == 403 and "the address that it printed" in answer.json()["fault"]
    assert file.read_text() == TEXT


def test_a_request_that_is_no_draft_or_too_long_is_refused(page: Page) -> None:
    said = page.ask("check", base="x")
    assert said["status"] == 400 and "baseline" in said["fault"]
    assert page.ask("check", **page.draft, surprise=1)["status"] == 400
    answer = page.client.post("/api/check", content=b"x", headers={"content-length": "99999999"})
    assert answer.status_code == 413
    page.more = {"settings": {"judge_defaults.cot": True}}
    assert "has no field 'judge_defaults.cot'" in page.ask("check")["fault"]


def test_the_page_loads_nothing_from_elsewhere_and_says_so_to_the_browser(page: Page) -> None:
    answer = page.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert "access-control-allow-origin" not in answer.headers and answer.headers["cache-control"] == "no-store"
    names = [path.relative_to(STATIC) for path in STATIC.rglob("*") if path.is_file()]
    assert len(names) >= 10
    for name in names:
        assert page.client.get(f"/static/{name}").status_code == 200
        if name.suffix in (".js", ".css", ".html") and "vendor" not in name.parts:
            assert "http" not in (STATIC / name).read_text().replace("http-equiv", "")
    assert page.client.get("/static/../server.py").status_code == 404


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none.yaml",), "does not exist"),
        (("constitutions/demo.yaml", "--run", "nowhere"), "there is no run 'nowhere'"),
        (("constitutions/demo.yaml", "--gold", "g.jsonl"), "give the run too"),
        (("constitutions/demo.yaml", "--against", "none.yaml"), "does not exist"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(
    ratify: Callable[..., Any], arguments: tuple[str, ...], sentence: str
) -> None:
    said = ratify("constitution", "edit", *arguments, "--no-browser")
    assert said.code and sentence in said.err and said.err.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(ratify: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = ratify("constitution", "edit", "constitutions/demo.yaml", "--no-browser", "--port", port)
    assert said.code == 2 and f"port {port} cannot be used" in said.err and said.err.count("\n") == 1

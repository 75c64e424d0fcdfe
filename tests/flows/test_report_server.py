"""The report server shows pages of runs and nothing else, to this machine and nobody else."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.report_server import find_page, index_page, make_app


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    stage = folder / "demo" / "round-000" / "evaluate"
    stage.mkdir(parents=True)
    (stage / "report.html").write_text("<p>fine")
    (stage / "report.json").write_text("{}")
    (stage / ".draft.html").write_text("hidden")
    (folder / "demo" / "verdicts.sqlite").write_bytes(b"secret")
    (tmp_path / "outside.html").write_text("secret")
    (stage / "link.html").symlink_to(tmp_path / "outside.html")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "../outside.html",
        "demo/../../outside.html",
        "/etc/passwd",
        "//etc/hostname",
        "demo/verdicts.sqlite",
        "demo/round-000/evaluate/link.html",
        "demo/round-000/evaluate/.draft.html",
        "demo/round-000/evaluate",
        "demo\0.html",
        "",
    ],
)
def test_what_is_no_page_of_a_run_does_not_exist(root: Path, name: str) -> None:
    assert find_page(root, name) is None


def test_a_report_is_served_with_a_policy_that_lets_it_do_nothing(root: Path) -> None:
    client = TestClient(make_app(root), base_url="http://127.0.0.1")
    answer = client.get("/demo/round-000/evaluate/report.html")
    assert answer.status_code == 200 and answer.text == "<p>fine"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client.get("/demo/round-000/evaluate/report.json").headers["content-type"] == "application/json"
    for path in ("/%2e%2e/outside.html", "/demo/%2e%2e/%2e%2e/outside.html", "/demo/verdicts.sqlite", "/%00"):
        assert client.get(path).status_code == 404, path
    assert client.post("/demo/round-000/evaluate/report.html").status_code == 405
    assert '<a href="/demo/round-000/evaluate/report.html">' in client.get("/").text


def test_a_name_that_was_rebound_to_this_machine_is_refused(root: Path) -> None:
    assert TestClient(make_app(root), base_url="http://evil.example").get("/").status_code == 400


def test_names_are_escaped_in_the_list(root: Path) -> None:
    odd = root / "a<b>" / "round-000" / "evaluate"
    odd.mkdir(parents=True)
    (odd / "report.html").write_text("x")
    page = index_page(root)
    assert "a<b>" not in page and "a&lt;b&gt;" in page and "/a%3Cb%3E/" in page
    assert "link.html" not in page and ".draft" not in page

"""The page in a real browser: typing, sliders by keyboard, saving, a conflict, a phone's width. Skipped without one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from constitutions.load import load_constitution
from ratify.lineage import ROOT
from tests.flows.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt-get install chromium")

DEMO = ROOT / "constitutions" / "demo.yaml"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, labelled_run: Path) -> Iterator[tuple[str, Path]]:
    """The command, started as a person starts it, and the file that it edits."""
    file = tmp_path_factory.mktemp("edited") / "demo.yaml"
    file.write_text(DEMO.read_text())
    command = [sys.executable, "-m", "flows.cli", "constitution", "edit", str(file), "--run", str(labelled_run)]
    server = subprocess.Popen([*command, "--no-browser"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    found = re.search(r"http://127\.0\.0\.1:\d+/#\S+", server.stdout.readline())
    assert found
    yield found[0], file
    server.terminate()
    assert "what was not saved" in server.communicate(timeout=30)[0] and server.returncode == 0


@pytest.fixture
def address(served: tuple[str, Path]) -> str:
    return served[0]


@pytest.fixture
def file(served: tuple[str, Path]) -> Path:
    served[1].write_text(DEMO.read_text())
    return served[1]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path / "profile") as chromium:
        yield chromium


def test_a_writer_edits_sees_the_effect_and_saves(browser: Chromium, address: str, file: Path) -> None:
    browser.open(address, width=1280, height=900)
    browser.wait("document.querySelectorAll('.principle').length === 5")
    browser.wait("document.querySelector('.lead')?.innerText.startsWith('0 of')")
    assert browser.value("document.querySelector('.saved').innerText") == "No changes"

    browser.focus("#principle-4 textarea")
    browser.write("The reply is always kind.")
    browser.wait("document.querySelector('#principle-4 .findings')?.innerText.includes('absolute-word')")
    browser.wait("document.querySelector('.unknown')?.innerText.includes('polite')")
    assert browser.value("document.querySelector('.saved').innerText") == "Not saved"
    assert browser.value("document.title").startswith("* ")
    browser.write("The reply is polite and respectful.")
    browser.wait("document.querySelector('.saved').innerText === 'No changes'")

    browser.focus("[aria-label='Weight of polite']")
    browser.press("ArrowRight", times=20)
    browser.wait("+document.querySelector('.lead b').innerText > 0")
    assert browser.value("document.querySelector('#principle-4 input[type=number]').value") == "3"
    browser.focus("#tab-principles")
    browser.press("ArrowRight")
    browser.wait("document.querySelectorAll('.pair').length > 0 && document.activeElement.id === 'tab-pairs'")
    assert browser.value("document.querySelector('.movers').innerText.includes('polite')")

    browser.wait("document.querySelector('.version button')")
    browser.focus(".version button")
    browser.press("Enter")
    browser.press("s", control=True)
    browser.wait("document.querySelector('.saved').innerText === 'Saved'")
    saved = load_constitution(file)
    assert saved.version == "1.1.0" and {each.id: each.weight for each in saved.principles}["polite"] == 3
    written, was = file.read_text().splitlines(), DEMO.read_text().splitlines()
    assert [line for line in written if line not in was] == ["version: 1.1.0", "    weight: 3"]
    assert set(was) - set(written) == {"version: 1.0.0"}
    assert browser.errors == []
    assert {url.split("/")[2] for url in browser.addresses if url.startswith("http")} == {address.split("/")[2]}


def test_the_text_itself_can_be_broken_and_mended_and_a_conflict_is_said(
    browser: Chromium, address: str, file: Path
) -> None:
    browser.open(address, width=1280, height=900, dark=True)
    browser.wait("document.querySelectorAll('.principle').length === 5")
    browser.focus("#tab-source")
    browser.press("Enter")
    browser.wait("document.querySelector('.source textarea')")
    browser.focus(".source textarea")
    browser.write(DEMO.read_text().replace("tier: truth", "tier: thruth"))
    browser.wait("document.querySelector('.notice')?.innerText.includes('unknown tier')")
    wrong = [number for number, line in enumerate(DEMO.read_text().splitlines(), 1) if "tier: truth" in line]
    assert browser.value("document.querySelector('.numbers .fault').innerText") == str(wrong[0])
    assert browser.value("document.querySelector('button.main').disabled")
    browser.write(DEMO.read_text().replace("tier: truth", "tier: safety"))
    browser.wait("!document.querySelector('.notice') && !document.querySelector('button.main').disabled")
    file.write_text(DEMO.read_text() + "# somebody else\n")
    browser.press("s", control=True)
    browser.wait("document.querySelector('[role=alert]')?.innerText.includes('has changed on disk')")
    assert file.read_text() == DEMO.read_text() + "# somebody else\n"
    assert [each for each in browser.errors if "409" not in each] == []


def test_principles_come_go_and_come_back(browser: Chromium, address: str, file: Path) -> None:
    browser.open(address, width=1280, height=900)
    browser.wait("document.querySelectorAll('.principle').length === 5")
    for name in ("polite", "concise"):
        browser.focus(f"[aria-label='Remove {name}']")
        browser.press("Enter")
    browser.wait("document.querySelectorAll('.removed').length === 2")
    browser.focus(".removed button")
    browser.press("Enter")
    browser.focus("button.add")
    browser.press("Enter")
    browser.wait("document.activeElement.placeholder === 'The reply …'")
    assert browser.value("document.querySelector('.principle:last-child .mark').innerText") == "new: needs a text"
    browser.call("Input.insertText", text="The reply cites a source.")
    browser.wait("document.querySelectorAll('.unknown').length && document.body.innerText.includes('Left out')")
    browser.press("s", control=True)
    browser.wait("document.querySelector('.saved').innerText === 'Saved'")
    assert [each.id for each in load_constitution(file).principles] == [
        "safe", "honest", "helpful", "polite", "new-principle",
    ]  # fmt: skip
    assert browser.value("document.querySelectorAll('.removed').length") == 0
    assert browser.errors == []


@pytest.mark.usefixtures("file")
def test_a_phone_shows_everything_without_scrolling_sideways(browser: Chromium, address: str) -> None:
    browser.open(address, width=390, height=844)
    browser.wait("document.querySelector('#tab-effect')?.offsetParent")
    for tab in ("principles", "pairs", "source", "effect"):
        browser.focus(f"#tab-{tab}")
        browser.press("Enter")
        browser.wait(f"document.getElementById('panel-{tab}')")
        assert browser.value("document.documentElement.scrollWidth <= innerWidth"), tab
    unnamed = "[...document.querySelectorAll('input, select, textarea')].filter(e => !e.labels?.length && !e.ariaLabel)"
    assert browser.value(f"{unnamed}.length") == 0
    assert browser.errors == []

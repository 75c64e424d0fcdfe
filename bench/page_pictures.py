"""Prefect's page in headless Chromium: a round started by the form's button, and the documentation's picture.

Used by `bench/operations.py`. The form's fields come filled from the address, as with the page's own "Copy to new
run"; the button is pressed by the mouse. The picture waits until the graph is laid out and the logs are loaded.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.flows.chromium import Chromium

if TYPE_CHECKING:
    from bench.operations import Page

PATIENCE_S = 300.0
WIDTH = 1400
SETTLED_S = 8.0
"""Seconds that a page gets after its last element has come: the graph is drawn on a canvas, which no selector sees."""
LISTEN = """
const send = XMLHttpRequest.prototype.send, open = XMLHttpRequest.prototype.open;
XMLHttpRequest.prototype.open = function (method, address, ...rest) {
  this.address = address; return open.call(this, method, address, ...rest);
};
XMLHttpRequest.prototype.send = function (body) {
  if (String(this.address).endsWith('/create_flow_run')) {
    window.asked = true;
    this.addEventListener('load', () => { window.started = [body, this.status, this.responseText]; });
  }
  return send.call(this, body);
};
"""
"""Keeps the request that starts a flow run, and its answer."""
SUBMIT = "[...document.querySelectorAll('button[type=submit]')].find(each => each.innerText === 'Submit')"


@contextmanager
def _browser() -> Iterator[Chromium]:
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Chromium(Path(folder) / "profile", PATIENCE_S) as page,
    ):
        yield page


def press_start(page: Page, name: str) -> str:
    """Start a round with the form's button; the flow run's id.

    Raises:
        SystemExit: the page sent something else than the form held, or Prefect refused it.
    """
    filled = quote(json.dumps(page.form(name)))
    status = 503  # of a server whose SQLite is busy; the page says so, and a person presses again
    with _browser() as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        while status == 503:
            browser.open(
                f"{page.address}/deployments/deployment/{page.deployment}/run?parameters={filled}",
                width=WIDTH, height=1400,
            )  # fmt: skip
            browser.wait(f"{SUBMIT} && document.querySelectorAll('textarea').length > 5")
            while not browser.value("Boolean(window.asked)"):  # the form first checks its fields against the schema
                _press(browser, SUBMIT)
                time.sleep(SETTLED_S)
            browser.wait("window.started")
            sent, status, answer = browser.value("window.started")
            page.busy += status == 503
    if status != 201 or json.loads(sent)["parameters"] != page.form(name):
        raise SystemExit(f"the page sent {sent} and was answered {status}: {answer}")
    return str(json.loads(answer)["id"])


def _press(browser: Chromium, element: str) -> None:
    """Press the mouse on an element."""
    spot = browser.value(
        f"(each => {{ each.scrollIntoView({{block: 'center'}}); const box = each.getBoundingClientRect(); "
        f"return [box.x + box.width / 2, box.y + box.height / 2] }})({element})"
    )
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=spot[0], y=spot[1], button="left", clickCount=1)


def take_picture(page: Page, run: str, folder: Path) -> None:
    """Photograph a finished round: the flow run of its parts with graph and logs, as `flow-run.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = page.family(run)[1]
    with _browser() as browser:
        browser.open(f"{page.address}/runs/flow-run/{parts}", width=WIDTH, height=820)
        browser.wait("document.querySelector('canvas') && document.querySelectorAll('.log-row').length > 1")
        time.sleep(SETTLED_S)
        browser.value("document.querySelector('[title^=Recenter]').click()")
        time.sleep(SETTLED_S)
        browser.picture(folder / "flow-run.png")

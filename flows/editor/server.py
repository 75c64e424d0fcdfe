"""The page's server: five questions about a draft, and the page's own files (starlette on uvicorn).

It holds the file and the run, and no draft: each request brings its own. Work is done in threads, so that a plan that
looks up thousands of verdicts does not keep lint waiting. Left out: who may ask (`guard.py`).
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from anyio.to_thread import run_sync
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from constitutions.lint_structure import Surroundings
from constitutions.load import read_text
from flows.editor.analysis import analyse, difference, load_or_fault
from flows.editor.drafts import Draft, Sent, parsed, sound_or_none
from flows.editor.edited_file import ChangedOnDisk, EditedFile
from flows.editor.guard import Guard
from flows.editor.live_run import LiveRun, held
from ratify.errors import ConfigError, ConstitutionError, InputError, RatifyError

STATIC = Path(__file__).resolve().parent / "static"
NEEDS_SOUND = "the constitution that is compared with does not load; mend it first"


class Save(Sent):
    """A request to write the file."""

    draft: Draft
    stamp: str


class Editor:
    """What the page may ask for; every method returns plain JSON."""

    def __init__(self, file: EditedFile, run: LiveRun | None = None, against: Path | None = None) -> None:
        self.file = file
        self.run = run
        self.against = against

    def opened(self) -> dict[str, Any]:
        """The file as it is on disk, and what it is compared with."""
        now = self.file.read()
        return {
            "path": str(self.file.path),
            "text": now.text,
            "stamp": now.stamp,
            "baseline": read_text(self.against) if self.against else now.text,
            "against": str(self.against) if self.against else None,
            "run": self.run.describe() if self.run else None,
        }

    def stamp(self) -> dict[str, Any]:
        """The version of the file on disk."""
        return {"stamp": self.file.read().stamp}

    def check(self, draft: Draft) -> dict[str, Any]:
        """What can be said of a draft without a run."""
        around = self.run.surroundings if self.run else Surroundings()
        return analyse(draft, self.file.path, around)

    def what_if(self, draft: Draft) -> dict[str, Any]:
        """What the draft would do to the run's labels."""
        if self.run is None:
            return {"state": "no run"}
        if not self.run.ready.is_set():
            return {"state": "reading"}
        try:
            new = parsed(draft.text(self.file.path), self.file.path)
        except ConstitutionError:
            return {"state": "unsound"}
        old, fault = sound_or_none(draft.baseline, self.file.path), self.run.fault
        try:
            if fault or old is None:
                raise InputError(fault or NEEDS_SOUND)
            return {"state": "ready", **self.run.what_if(old, new)}
        except InputError as error:
            return {"state": "fault", "fault": str(error)}

    def plan(self, draft: Draft) -> dict[str, Any]:
        """What `ratify plan --sample 0` says of the draft."""
        path, text = self.file.path, draft.text(self.file.path)
        new, old = parsed(text, path), sound_or_none(draft.baseline, path)
        if old is None:
            raise ConfigError(NEEDS_SOUND)
        if self.run is None:
            return {"state": "no run", **difference(old, new)}
        return {"state": "ready", **self.run.plan(held(old, draft.baseline, path), held(new, text, path))}

    def save(self, request: Save) -> dict[str, Any]:
        """Write the draft to the file; the answer fills the form anew."""
        now = self.file.save(request.draft.text(self.file.path), request.stamp)
        checked = self.check(Draft(baseline=request.draft.baseline, base=now.text))
        return {"text": now.text, "stamp": now.stamp, "checked": checked}


def make_app(editor: Editor, token: str) -> Starlette:
    """The application; everything under /api/ needs the token."""
    routes = [
        Route("/", _page),
        Route("/api/file", _answer(editor.opened)),
        Route("/api/stamp", _answer(editor.stamp)),
        Route("/api/check", _answer(editor.check, Draft), methods=["POST"]),
        Route("/api/what-if", _answer(editor.what_if, Draft), methods=["POST"]),
        Route("/api/plan", _answer(editor.plan, Draft), methods=["POST"]),
        Route("/api/save", _answer(editor.save, Save), methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)])


async def _page(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def _answer(work: Callable[..., dict[str, Any]], kind: type[BaseModel] | None = None) -> Callable[[Request], Any]:
    """An endpoint that does its work in a thread and turns a fault into its sentence."""

    async def endpoint(request: Request) -> Response:
        try:
            arguments = [] if kind is None else [kind.model_validate_json(await request.body())]
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            return JSONResponse({"fault": f"this request is not understood ({place}: {first['msg']})"}, 400)
        try:
            return JSONResponse(await run_sync(work, *arguments))
        except ChangedOnDisk as error:
            return JSONResponse({"fault": str(error), "kind": "changed"}, 409)
        except RatifyError as error:
            return JSONResponse({"fault": str(error)}, 422)

    return endpoint


def serve(editor: Editor, port: int, *, browser: bool) -> None:
    """Listen on 127.0.0.1 until interrupted; port 0 takes a free one.

    Raises:
        ConfigError: something else listens on the port.
    """
    token = secrets.token_urlsafe(24)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used ({error.strerror}); choose another with --port, or 0") from None
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/#{token}"
    fault = load_or_fault(editor.file.read().text, editor.file.path)
    if fault:
        print(f"{fault}\nthe page shows the text, so that it can be mended there")
    print(f"editing {editor.file.path} at {address}\nstop with Ctrl-C", flush=True)
    if browser and _has_screen():
        webbrowser.open(address)
    config = uvicorn.Config(make_app(editor, token), log_level="warning", access_log=False)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print("stopped; what was not saved in the page is not in the file")


def _has_screen() -> bool:
    """Whether a browser window can open; without one, a browser for terminals would take this terminal over."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

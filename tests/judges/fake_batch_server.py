"""A server that takes batch files, as OpenAI's does: files, batches, and answers as lines of JSON in any order."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.judges.fake_server import FakeServer, completion

Spoil = Callable[[int, dict[str, Any]], dict[str, Any] | None]
"""Changes the answer line of a request by its number; None leaves it out."""


class FakeBatchServer(FakeServer):
    """`looks` is how often a batch must be looked at before it has ended."""

    def __init__(self, *, looks: int = 0) -> None:
        super().__init__()
        self.looks = looks
        self.spoil: Spoil = lambda _number, line: line
        self.end = "completed"
        self.refuse = ""
        self.created: list[str] = []
        self.paid: list[str] = []
        """The custom ids of every request that was ever computed."""
        self.lost_creations = 0
        """So many batches are created without the client being told."""
        self.kill_at: list[str] = []
        """Moments at which the client is killed, in order: it has asked, and gets no answer."""
        self.client_pid = 0
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, dict[str, Any]] = {}

    def add_routes(self, app: web.Application) -> None:
        super().add_routes(app)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{name}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{name}", self._look)

    def end_all(self) -> None:
        self.looks = 0
        for batch in self._batches.values():
            batch["looks"] = 0

    def _moment(self, name: str) -> None:
        if self.kill_at[:1] == [name]:
            self.kill_at.pop(0)
            os.kill(self.client_pid, signal.SIGKILL)

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self._files)}"
        self._files[name] = content
        return name

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        content = form["file"].file.read()
        name = self._keep(content)
        self._moment("uploaded")
        return web.json_response({"id": name, "object": "file", "bytes": len(content), "created_at": 0,
                                  "filename": "f", "purpose": "batch", "status": "processed"})  # fmt: skip

    async def _content(self, request: web.Request) -> web.Response:
        self._moment("downloading")
        return web.Response(body=self._files[request.match_info["name"]])

    async def _create(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        lines = [json.loads(line) for line in self._files[asked["input_file_id"]].splitlines()]
        assert {line["url"] for line in lines} == {"/v1/chat/completions"}
        name = f"batch_{len(self._batches)}"
        self.created.append(name)
        self._batches[name] = {
            "id": name, "object": "batch", "endpoint": asked["endpoint"], "input_file_id": asked["input_file_id"],
            "completion_window": "24h", "created_at": 0, "metadata": asked["metadata"], "status": "in_progress",
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0}, "looks": self.looks,
        }  # fmt: skip
        if not self.refuse:
            self.paid += [line["custom_id"] for line in lines]
        self._moment("created")
        if self.lost_creations:
            self.lost_creations -= 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response(self._batches[name])

    async def _list(self, _request: web.Request) -> web.Response:
        self._moment("listing")
        found = list(self._batches.values())[::-1]
        return web.json_response({"object": "list", "data": found, "has_more": False})

    async def _look(self, request: web.Request) -> web.Response:
        self._moment("looking")
        batch = self._batches[request.match_info["name"]]
        if self.refuse:
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": self.refuse}]}
        elif batch["looks"] > 0:
            batch["looks"] -= 1
        elif batch["status"] == "in_progress":
            self._answer(batch)
        return web.json_response(batch)

    def _answer(self, batch: dict[str, Any]) -> None:
        good, bad = [], []
        for number, line in enumerate(self._files[batch["input_file_id"]].splitlines()):
            asked = json.loads(line)
            body = completion(self.answer(asked["body"]["messages"][-1]["content"]), asked["body"])
            whole = {"id": f"r{number}", "custom_id": asked["custom_id"], "error": None,
                     "response": {"status_code": 200, "request_id": "x", "body": body}}  # fmt: skip
            spoilt = self.spoil(number, whole)
            if spoilt is not None:
                (bad if spoilt["error"] else good).append(json.dumps(spoilt))
        random.Random(0).shuffle(good)
        batch["status"] = self.end
        batch["output_file_id"] = self._keep("\n".join(good).encode() + b"\n") if good else None
        batch["error_file_id"] = self._keep("\n".join(bad).encode() + b"\n") if bad else None

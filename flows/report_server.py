"""`python -m flows.report_server --root runs --port N`: the pages of finished runs for a browser on this machine.

Only HTML reports and the JSON and Markdown beside them, only under the folder of runs, only on 127.0.0.1. A name that
leaves the folder, by `..` or by a symbolic link, does not exist; nothing can be written. Pages may run no script and
ask no other host. Left out: the verdict store, models and logs, which are no pages.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

HOST = "127.0.0.1"
KINDS = {".html": "text/html", ".json": "application/json", ".md": "text/markdown"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def make_app(root: Path) -> Starlette:
    """The application over one folder of runs."""

    async def listing(_request: Request) -> Response:
        return HTMLResponse(index_page(root), headers=HEADERS)

    async def page(request: Request) -> Response:
        found = find_page(root, request.path_params["name"])
        if found is None:
            return PlainTextResponse("no such report\n", 404, headers=HEADERS)
        return FileResponse(found, media_type=KINDS[found.suffix], headers=HEADERS)

    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)
    return Starlette(routes=[Route("/", listing), Route("/{name:path}", page)], middleware=[hosts])


def find_page(root: Path, name: str) -> Path | None:
    """The file of that name, if it is a page and really lies under `root`; hidden names are none."""
    parts = Path(name).parts
    if any(part.startswith(".") for part in parts) or "\0" in name:
        return None
    found, home = (root / name.lstrip("/")).resolve(), root.resolve()
    inside = found.is_relative_to(home)
    return found if inside and found.suffix in KINDS and found.is_file() else None


def index_page(root: Path) -> str:
    """A list of every report, newest first."""
    found = [path for path in root.glob("*/round-*/**/*.html") if find_page(root, str(path.relative_to(root)))]
    names = [str(path.relative_to(root)) for path in sorted(found, key=lambda path: -path.stat().st_mtime)]
    rows = "".join(f'<li><a href="/{quote(name)}">{html.escape(name)}</a></li>' for name in names)
    style = "body{font:16px system-ui;margin:3rem auto;max-width:48rem}li{margin:.4rem 0}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Ratify reports</title><style>{style}</style>'
        f"<h1>Reports</h1>{f'<ul>{rows}</ul>' if rows else '<p>No run has a report yet.</p>'}</html>"
    )


def main(
    root: Annotated[Path, typer.Option(help="The folder of runs.")],
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1.")],
) -> None:
    """Serve until ended."""
    uvicorn.run(make_app(root), host=HOST, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    typer.run(main)

"""An interpreter whose `vllm` is a few lines: it answers /health, or prints a given log and dies."""

from __future__ import annotations

import sys
from pathlib import Path

SERVER = """
import http.server, multiprocessing, os, pathlib, sys, time

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass

def engine_core():
    time.sleep(600)

if __name__ == "__main__":
    value = lambda flag: sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else None
    print("arguments:", *sys.argv[1:], flush=True)
    if value("--die-with"):
        print(value("--die-with"), flush=True); sys.exit(1)
    core = multiprocessing.get_context("fork").Process(target=engine_core); core.start()
    pathlib.Path(value("--pids")).write_text(f"{os.getpid()} {core.pid}")
    if value("--never-ready"):
        time.sleep(600)
    http.server.HTTPServer((value("--host"), int(value("--port"))), Healthy).serve_forever()
"""

PARENT = """
import asyncio, sys, time
from pathlib import Path
from generation.engine import serve
from ratify.sections import EndpointSection

async def main():
    async with serve(EndpointSection.model_validate_json(sys.argv[1]), log_path=Path(sys.argv[2])):
        print("ready", flush=True)
        time.sleep(600)

asyncio.run(main())
"""
"""A process that serves a model until it is killed; arguments: the endpoint as JSON, the log's path."""


def python_with_fake_vllm(folder: Path, import_error: str = "") -> Path:
    """Write the package and a wrapper that runs this Python with it in front of the real one."""
    package = folder / "site" / "vllm"
    (package / "entrypoints" / "openai").mkdir(parents=True)
    for part in (package, package / "entrypoints", package / "entrypoints" / "openai"):
        (part / "__init__.py").write_text("")
    (package / "__init__.py").write_text(f"raise {import_error}\n" if import_error else "")
    (package / "platforms.py").write_text("class current_platform:\n    is_cpu = staticmethod(lambda: True)\n")
    (package / "entrypoints" / "openai" / "api_server.py").write_text(SERVER)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "site"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def model_folder(folder: Path) -> str:
    """A folder that looks like a model."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return str(folder)

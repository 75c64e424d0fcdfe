"""One labelling pass by Bespoke Curator, for `bench/labelling.py`: run by an interpreter that has
`bespokelabs-curator`, which needs nothing of Ratify.

    PYTHON -P bench/peer_curator.py URL REQUESTS IN_FLIGHT

REQUESTS is a file with the messages of one request per line, as JSON. Its OpenAI backend in online mode, with limits
per minute that never bind, a fresh working folder, no viewer, no telemetry; each answer is read as its first letter.
Starting the interpreter, imports and the dataset's making are not timed. Left out: log-probabilities of the answer,
which it asks for here but does not hand to `parse`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

UNBOUND = 10**9
"""Requests and tokens per minute."""
QUIET = {"TELEMETRY_ENABLED": "false", "CURATOR_VIEWER": "0", "CURATOR_DISABLE_RICH_DISPLAY": "1"}


def use_bundled_tokenizer() -> None:
    """Its backend counts tokens with a file that tiktoken would download; litellm, which it depends on, brings it."""
    import litellm

    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")


def label(url: str, requests: list[list[dict[str, str]]], in_flight: int) -> dict[str, Any]:
    """Seconds by the clock, processor seconds and peak memory of one pass."""
    from bespokelabs import curator

    class Judge(curator.LLM):
        def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
            return row["messages"]

        def parse(self, _row: dict[str, Any], response: str) -> dict[str, str]:
            return {"choice": response.strip()[:1]}

    judge = Judge(
        model_name="fake",
        backend="openai",
        generation_params={"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20},
        backend_params={
            "base_url": f"{url}/v1",
            "api_key": "none",
            "max_requests_per_minute": UNBOUND,
            "max_tokens_per_minute": UNBOUND,
            "max_concurrent_requests": in_flight,
            "invalid_finish_reasons": ["content_filter"],  # one token always ends by "length"
        },
    )
    rows = [{"messages": messages} for messages in requests]
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        answered = judge(rows, working_dir=folder)
        found = list(getattr(answered, "dataset", answered))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    assert len(found) == len(rows) and {row["choice"] for row in found} <= {"A", "B"}, found[:3]
    return {"calls": len(found), "seconds": seconds, "cpu_seconds": cpu_seconds}


if __name__ == "__main__":
    where, file, flights = sys.argv[1:]
    os.environ.update(QUIET)
    use_bundled_tokenizer()
    asked = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    measured = label(where, asked, int(flights))
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured |= {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "helpers_cpu_seconds": ended.ru_utime + ended.ru_stime,
        "version": importlib.metadata.version("bespokelabs-curator"),
    }
    print(json.dumps(measured))

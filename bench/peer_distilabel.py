"""One labelling pass by distilabel, for `bench/labelling.py`: run by an interpreter that has
`distilabel[openai]`, which needs nothing of Ratify.

    PYTHON -P bench/peer_distilabel.py URL REQUESTS IN_FLIGHT

REQUESTS is a file with the messages of one request per line, as JSON. A pipeline of two steps, the rows and its own
`ChatGeneration` over `OpenAILLM`, without a cache. A batch is sent at once and waited for as a whole, so the batch size
is the number of requests in flight. Starting the interpreter and imports are not timed; starting its steps, which are
processes, is part of `Pipeline.run` and of its processor time.
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

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import ChatGeneration


def label(url: str, requests: list[list[dict[str, str]]], in_flight: int, folder: str) -> dict[str, Any]:
    """Seconds by the clock and processor seconds of one pass."""
    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        rows = LoadDataFromDicts(
            data=[{"messages": messages} for messages in requests], batch_size=max(in_flight, 1_000)
        )
        judge = ChatGeneration(
            llm=OpenAILLM(
                model="fake",
                base_url=f"{url}/v1",
                api_key="none",
                generation_kwargs={"max_new_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20},
            ),
            input_batch_size=in_flight,
            add_raw_input=False,
        )
        rows >> judge
    started, worked = time.perf_counter(), time.process_time()
    found = list(pipeline.run(use_cache=False)["default"]["train"])
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    assert len(found) == len(requests) and {row["generation"] for row in found} <= {"A", "B"}, found[:3]
    return {"calls": len(found), "seconds": seconds, "cpu_seconds": cpu_seconds}


if __name__ == "__main__":
    where, file, flights = sys.argv[1:]
    os.environ["DISTILABEL_LOG_LEVEL"] = "WARNING"
    asked = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as scratch:
        measured = label(where, asked, int(flights), scratch)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured |= {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "helpers_cpu_seconds": ended.ru_utime + ended.ru_stime,
        "version": importlib.metadata.version("distilabel"),
    }
    print(json.dumps(measured))

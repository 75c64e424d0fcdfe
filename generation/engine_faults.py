"""What a dead server's log says, as one sentence with the setting to change.

vLLM's log is long and its last line is rarely the cause, so the known faults are looked for first, over the whole log
of this start; what is left is the last line that names an error. The log's path is always part of the sentence.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ratify.errors import EngineError

PREFIX = re.compile(r"^(\(\w+ pid=\d+\)\s*)+|^(INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ \[[^\]]*\]\s*")
ERROR_LINE = re.compile(r"^[\w.]*(Error|Exception|Exit)\b.*:|\berror:", re.IGNORECASE)
BAD_ARGUMENT = re.compile(r"error: (unrecognized arguments?.*|argument .*)")
PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)


class Known(NamedTuple):
    """A fault that a log can be searched for; `{s}` in its sentence is the section to change."""

    pattern: str
    sentence: str


KNOWN = (
    Known(
        r"max_model_len.*is greater than the derived max_model_len",
        "{s}.engine.max_model_len is more than the model allows; lower or remove it",
    ),
    Known(
        r"KV cache is needed, which is larger|No available memory for the cache|"
        r"max seq len .* is larger than the maximum number of tokens",
        "the key-value cache is too small for one sequence: raise {s}.engine.kv_cache_gib "
        "or lower {s}.engine.max_model_len",
    ),
    Known(
        r"out of memory|\bMemoryError\b|can't allocate memory|cannot allocate memory|Decrease --kv-cache-memory|"
        r"less than requested memory|less than desired .*memory utilization",
        "the model of {s} does not fit in memory: lower {s}.engine.kv_cache_gib, {s}.engine.max_model_len or "
        "{s}.engine.max_num_seqs, or use a smaller model",
    ),
    Known(
        r"trust_remote_code=True|--trust-remote-code",
        "the model of {s} brings its own code: read it, then set {s}.engine.trust_remote_code = true",
    ),
    Known(
        r"No common block size",
        "this machine cannot compute blocks of {s}.engine.block_size tokens; on a CPU take a multiple of 32",
    ),
    Known(
        r"Head size \d+ is not supported|head_size.* not supported|Unsupported head",
        "vLLM cannot compute the head size of {s}.model on this machine; a CPU takes 32, 64, 80, 96, 112, 128",
    ),
)


def fault(log: str, *, log_path: Path, section: str, port: int) -> EngineError:
    """The sentence for a server that ended on its own."""
    where = f"(log: {log_path})"
    bad = BAD_ARGUMENT.search(log)
    if bad:
        return EngineError(f"vLLM refuses an argument: {bad[1].strip()}; correct {section}.engine.extra_args {where}")
    if PORT_TAKEN.search(log):
        return port_taken(section, port)
    for known in KNOWN:
        if re.search(known.pattern, log, re.IGNORECASE):
            return EngineError(f"{known.sentence.format(s=section)} {where}")
    return EngineError(f"the vLLM server of {section} ended on its own: {meaningful_line(log)} {where}")


def port_taken(section: str, port: int) -> EngineError:
    """The sentence for a port that another process holds."""
    return EngineError(f"port {port} is in use: set {section}.engine.port to another one, or to 0 for a free one")


def meaningful_line(log: str) -> str:
    """The last line that names an error, else the last line, without vLLM's prefixes."""
    lines = [line for line in (_bare(line) for line in log.splitlines()) if line]
    errors = [line for line in lines if ERROR_LINE.search(line) and "See root cause" not in line]
    # The first error of the innermost process is the cause; "Engine core initialization failed" only repeats it.
    causes = [line for line in errors if "Engine core initialization failed" not in line]
    return (causes or errors or lines or ["it wrote nothing"])[-1][:300]


def _bare(line: str) -> str:
    previous = None
    while previous != line:
        previous, line = line, PREFIX.sub("", line.strip())
    return line

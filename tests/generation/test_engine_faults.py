"""The sentences for logs as vLLM 0.32 writes them (shortened)."""

from __future__ import annotations

from pathlib import Path

import pytest

from generation.engine_faults import fault, meaningful_line

TAIL = "\nRuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"


def sentence(log: str) -> str:
    return str(fault(log + TAIL, log_path=Path("run/vllm.log"), section="judge", port=8123))


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "ValueError: To serve at least one request with the max seq len (512), 1.50 GiB KV cache is needed, "
            "which is larger than the available KV cache memory (0.5 GiB).",
            "raise judge.engine.kv_cache_gib or lower judge.engine.max_model_len",
        ),
        (
            "Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or reduce",
            "does not fit in memory: lower judge.engine.kv_c",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "does not fit in memory"),
        ("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory", "does not fit in memory"),
        ("User-specified max_model_len (9999) is greater than the derived max_model_len", "lower or remove it"),
        (
            "api_server.py: error: unrecognized arguments: --nope",
            "unrecognized arguments: --nope; correct judge.engine.extra_a",
        ),
        (
            "ValueError: No common block size for 16 (CPU_ATTN: [MultipleOf(32)]).",
            "block_size tokens; on a CPU take a mult",
        ),
        ("OSError: [Errno 98] Address already in use", "port 8123 is in use: set judge.engine.port"),
        (
            "please set the option `trust_remote_code=True` to remove this error",
            "judge.engine.trust_remote_code = true",
        ),
    ],
)
def test_known_faults_name_the_setting_to_change(log: str, words: str) -> None:
    assert words in sentence(log)


def test_an_unknown_fault_quotes_the_cause_and_names_the_log() -> None:
    log = "(EngineCore pid=12) ERROR 11-20 23:48:41 [core.py:9] ValueError: the moon is in the way"
    assert "ended on its own: ValueError: the moon is in the way (log: run/vllm.log)" in sentence(log)


def test_without_an_error_the_last_line_is_quoted() -> None:
    assert meaningful_line("(APIServer pid=1) INFO 11-20 23:48:41 [x.py:1] loading\n\n") == "loading"
    assert meaningful_line("") == "it wrote nothing"

"""`python -m training.child SPEC.json`: one training task in a process of its own.

Writes `model/`, `metrics.jsonl`, and `result.json` last; with result.json there it does nothing, without it the task
goes on from its checkpoint. A fault goes to `error.json` as one sentence. With `section.processes` above 1 or an
`accelerate_config` this process becomes a launcher (`accelerate launch` on GPUs, torchrun over gloo on CPUs, for which
accelerate's launcher would need MPI) whose workers run this module again; on several machines each has such a launcher,
and the first worker of machine 0 writes. Nothing heavy is imported before the process is tied to its parent's life.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from training.cancellation import heed_sigterm
from training.lifeline import PARENT_VARIABLE, die_with_parent

if TYPE_CHECKING:
    from training.spec import TrainSpec

UNEXPECTED_EXIT = 1


def main(arguments: list[str]) -> int:
    """Run the task of a specification file; returns the exit code."""
    die_with_parent()
    if len(arguments) != 1:
        print("usage: python -m training.child SPEC.json", file=sys.stderr)
        return 2
    from training.devices import launcher
    from training.spec import load_spec

    path = Path(arguments[0])
    spec = load_spec(path)
    if "LOCAL_RANK" not in os.environ and (command := launcher(spec.section)):
        # This process keeps its id and its tie to the parent.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        os.execv(sys.executable, [sys.executable, "-m", *command, "-m", "training.child", str(path)])
    return _guarded(path)


def _guarded(path: Path) -> int:
    """Run the task; turn every fault into error.json and an exit code."""
    from ratify.errors import RatifyError, TrainingError
    from training.devices import own_folder
    from training.spec import load_spec

    spec = load_spec(path)
    try:
        _run(path)
    except RatifyError as error:
        fault = error
    except OSError as error:
        fault = TrainingError(_os_sentence(spec.out, error))
        traceback.print_exc()
    except Exception as error:  # the process boundary: the parent needs one sentence whatever happened
        traceback.print_exc()
        fault = TrainingError(_sentence(error, spec.task, spec.section.tokens_per_micro_batch))
    else:
        return 0
    _write_error(own_folder(spec), fault)
    return fault.exit_code


def _run(path: Path) -> None:
    from training.result import check_same, read_result, write_result
    from training.spec import (
        PolicyGradientTask,
        PreferenceTask,
        RewardModelTask,
        SupervisedTask,
        fingerprint,
        load_spec,
    )

    started = time.perf_counter()
    spec = load_spec(path)
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    mark = fingerprint(spec) if alone else _met(spec)
    if alone and (finished := read_result(spec.out)) is not None:
        check_same(finished, mark, spec.out)
        return
    # transformers imports scikit-learn, and with it scipy and pandas, for speculative decoding: 3 s for nothing here.
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
    import torch

    if alone:
        heed_sigterm()
    if spec.section.threads is not None:
        torch.set_num_threads(spec.section.threads)
    import logging

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if isinstance(spec, RewardModelTask):
        from training.reward_model import train_reward_model

        engine, result = train_reward_model(spec, mark)
    elif isinstance(spec, PreferenceTask):
        from training.preference import train_preference

        engine, result = train_preference(spec, mark)
    elif isinstance(spec, SupervisedTask):
        from training.supervised import train_supervised

        engine, result = train_supervised(spec, mark)
    elif isinstance(spec, PolicyGradientTask):
        from training.policy_gradient import train_policy_gradient

        engine, result = train_policy_gradient(spec, mark)
    else:
        from training.scoring import score_completions

        engine, result = score_completions(spec, mark)
    engine.accelerator.wait_for_everyone()
    if engine.is_main:
        seconds = round(time.perf_counter() - started, 3)
        write_result(spec.out, result.model_copy(update={"metrics": {**result.metrics, "seconds": seconds}}))
    engine.finish()
    engine.accelerator.end_training()


def _met(spec: TrainSpec) -> str:
    """The fingerprint, once all processes have the same. A result is none's before: the launcher has looked."""
    from training.meeting import meet

    return meet(spec)


def _write_error(out: Path, fault: Exception) -> None:
    """The first worker to fail says why; a full disk must not hide the fault itself."""
    from ratify.files import write_json

    print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
    if not (out / "error.json").exists():
        try:
            write_json(out / "error.json", {"kind": type(fault).__name__, "message": str(fault)})
        except Exception:  # stderr has it, and the parent falls back to the exit code
            traceback.print_exc()


def _os_sentence(out: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full while writing {out}; free some space and run again: the checkpoint is kept"
    return f"training could not read or write a file: {error}"


def _sentence(error: Exception, task: str, budget: int) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "no space left" in text.lower():
        # safetensors reports a full disk as an error of its own.
        return f"the disk is full ({text}); free some space and run again: the checkpoint is kept"
    if _is_lost_peer(error):
        reason = re.sub(r"^\[[^]]*\] ", "", text).split(". ")[0]  # without the place in gloo's source and its advice
        return (
            f"another process of this training is gone ({reason}): the log of its machine says why; run the same "
            "command on every machine again, it goes on from the last checkpoint"
        )
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        lower = f"lower {task}.tokens_per_micro_batch (now {budget}) or max_length"
        return f"training ran out of memory; {lower}, or set gradient_checkpointing = true ({text})"
    return f"training failed unexpectedly: {type(error).__name__}: {text}"


def _is_lost_peer(error: Exception) -> bool:
    """Gloo has no exception of its own, NCCL and the store have."""
    import torch.distributed

    return "gloo" in str(error).lower() or isinstance(error, torch.distributed.DistError)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

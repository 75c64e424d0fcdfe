"""What can go wrong, as one tree. Every message is one sentence: what, where (file and line), how to mend it.

    RatifyError                 shown to the person without a traceback; `exit_code` ends the process
    ├── ConfigError             a config file, an override or a combination that cannot work
    ├── InputError              a prompt, preference or model folder that cannot be used (file and line)
    ├── ConstitutionError       a constitution that does not load (file and line)
    ├── EngineError             the managed vLLM server did not start, fit or stay alive
    ├── EndpointError           an OpenAI-compatible server is down, refuses the key or answers rubbish
    ├── StoreError              run directory or verdict store: locked, corrupt, disk full
    ├── BudgetError             the failure budget or a limit stopped a stage
    │   └── SpendingError       a limit on money, tokens or requests; never worth a retry before it is raised
    ├── TrainingError           a training task stopped: NaN loss, out of memory, wrong checkpoint
    ├── GateError               the gate does not promote; nothing was moved
    ├── SchedulerError          the Prefect server does not answer, or was lost in the middle of a run
    ├── DoctorError             `ratify doctor` found a fault
    └── BatchPending            a batch file is not answered yet; nothing is wrong

Failures of a single judge call are not exceptions: they are data (`ratify.types.Failure`), kept with their raw text.
"""

from __future__ import annotations

from pathlib import Path


class RatifyError(Exception):
    """A fault the user can mend; the command line prints its sentence and exits with `exit_code`."""

    exit_code = 1


class ConfigError(RatifyError):
    """A configuration that cannot work."""

    exit_code = 2


class InputError(RatifyError):
    """A file or folder given by the user that cannot be used."""

    exit_code = 3

    @classmethod
    def at(cls, path: str | Path, line: int, message: str) -> InputError:
        """Name the file and the line, as editors and compilers do."""
        return cls(f"{path}:{line}: {message}")


class ConstitutionError(InputError):
    """A constitution that does not load."""


class EngineError(RatifyError):
    """The managed vLLM server did not start, does not fit, or died."""

    exit_code = 4


class EndpointError(RatifyError):
    """An OpenAI-compatible server is down, refuses the key, or answers rubbish."""

    exit_code = 5


class StoreError(RatifyError):
    """The run directory or the verdict store cannot be written or trusted."""

    exit_code = 6


class BudgetError(RatifyError):
    """A stage stopped because too many calls failed or a limit was reached."""

    exit_code = 7


class SpendingError(BudgetError):
    """A limit on money, tokens or requests allows no further request. A scheduler must not retry it."""

    exit_code = 9


class TrainingError(RatifyError):
    """A training task stopped; the last good checkpoint is kept."""

    exit_code = 8


class GateError(RatifyError):
    """The gate does not say PROMOTE. Nothing was moved."""

    exit_code = 10


class SchedulerError(RatifyError):
    """Prefect's server or the Ray cluster is not there. What the stages have finished is kept."""

    exit_code = 11


class DoctorError(RatifyError):
    """Something is wrong with a run or with the machine."""

    exit_code = 12


class BatchPending(RatifyError):
    """A batch at a hosted API is still running: the same command later goes on. The exit code is sysexits' EX_TEMPFAIL,
    so that a scheduler can tell it from a fault."""

    exit_code = 75

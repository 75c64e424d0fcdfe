"""Which prompts a round uses: read from the configured files, cleared of evaluation prompts, drawn within quotas.

Reading and looking for contamination take a second on a large file and are asked for by many stages, so both are
remembered while the files stay as they are.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.contamination import Contamination, find_contamination
from flows.context import RunContext
from judges.gold import load_gold
from ratify.errors import InputError
from ratify.prompt_selection import draw_prompts
from ratify.prompts import load_prompts
from ratify.types import Prompt

MOST_TAGS = 12
"""Tags whose share is reported."""


def training_prompts(context: RunContext) -> list[Prompt]:
    """The prompts whose completions are judged and trained on.

    Raises:
        InputError: every prompt is an evaluation prompt, or the quotas cannot be met.
    """
    config = context.config
    prompts = _read(config.prompts.train)
    dropped = _dropped(context)
    left = [prompt for prompt in prompts if prompt.id not in dropped]
    if not left:
        raise InputError(
            f"every prompt of {config.prompts.train} is an evaluation prompt too; train on other prompts, or set "
            "selection.decontaminate = 'off'"
        )
    chosen = config.selection
    return draw_prompts(
        left, config.prompts.train_limit, _seed(context),
        portion=chosen.portion, at_least=chosen.at_least, at_most=chosen.at_most,
    )  # fmt: skip


def heldout_prompts(context: RunContext) -> list[Prompt]:
    """The prompts that only evaluation sees; the same in every round."""
    config = context.config
    return draw_prompts(_read(config.prompts.heldout), config.prompts.heldout_limit, _seed(context))


def contamination(context: RunContext) -> Contamination:
    """What the training file has in common with the held-out prompts and those of gold pairs, dropped or not."""
    config = context.config
    files = [
        (path, _changed(path)) for path in (config.prompts.train, config.prompts.heldout, config.gold.path) if path
    ]
    return _contamination(tuple(files), config.selection.similar)


def contaminated_ids(context: RunContext, prompts: list[Prompt]) -> set[str]:
    """Of other prompts than the training file's, those that `selection.decontaminate` would leave out."""
    config = context.config
    return _left_out(
        find_contamination(prompts, _evaluation(config.prompts.heldout, config.gold.path), config.selection.similar),
        config.selection.decontaminate,
    )


def selection_metrics(context: RunContext, prompts: list[Prompt]) -> dict[str, Any]:
    """What was found and dropped, and the shares of the commonest tags, by metric key."""
    found, tags = contamination(context), Counter(tag for prompt in prompts for tag in set(prompt.tags))
    counts: dict[str, Any] = {
        "generate/contaminated_exact/count": len(found.exact),
        "generate/contaminated_near/count": len(found.near),
        "generate/contaminated_dropped/count": len(_dropped(context)),
    }
    common = tags.most_common(MOST_TAGS)
    return counts | {f"generate/prompts.{tag}/share": round(count / len(prompts), 4) for tag, count in common}


def _dropped(context: RunContext) -> set[str]:
    how = context.config.selection.decontaminate
    return set() if how == "off" else _left_out(contamination(context), how)


def _left_out(found: Contamination, how: str) -> set[str]:
    return {*(found.exact if how != "off" else ()), *(found.near if how == "near" else ())}


def _evaluation(heldout: Path, gold: Path | None) -> list[Prompt]:
    return [*_read(heldout), *(load_gold(gold).prompts.values() if gold else ())]


def _seed(context: RunContext) -> int:
    own = context.config.selection.seed
    return context.config.run.seed if own is None else own


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _read(path: Path) -> list[Prompt]:
    return _reading(path, _changed(path))


@lru_cache(maxsize=8)
def _reading(path: Path, _at: int) -> list[Prompt]:
    return load_prompts(path)


@lru_cache(maxsize=8)
def _contamination(files: tuple[tuple[Path, int], ...], similar: float) -> Contamination:
    train, heldout, *gold = (path for path, _ in files)
    return find_contamination(_read(train), _evaluation(heldout, gold[0] if gold else None), similar)

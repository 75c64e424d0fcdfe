"""Write the demo prompts: every request of the grammar, one file per split. Run it with `python -m
demo.make_prompts`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from demo import grammar, models


def prompt_rows(split: grammar.Split) -> list[dict[str, object]]:
    """The rows of one split's file."""
    seen: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for request in grammar.of_split(split):
        seen[request.family] += 1
        rows.append(
            {
                "id": f"{split}-{request.family}-{seen[request.family]:03d}",
                "messages": [{"role": "user", "content": request.prompt}],
                "tags": [request.family],
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_prompts(folder: Path) -> None:
    """Write both files."""
    for split in ("train", "heldout"):
        rows = prompt_rows(split)
        write_rows(folder / f"{split}.jsonl", rows)
        print(f"prompts: {len(rows)} in {folder / f'{split}.jsonl'}")


if __name__ == "__main__":
    make_prompts(models.FOLDER / "prompts")

"""Writes docs/cli.md from the commands themselves: `python -m flows.command_reference`; a test compares the two.

One section per command with its usage, what it does, its arguments and its options, in the order in which
`ratify --help` shows them. Left out: how a terminal draws help, which is typer's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from ratify.files import write_text
from ratify.lineage import ROOT

PAGE = ROOT / "docs" / "cli.md"
HEAD = """# The command line

Written by `python -m flows.command_reference` from the commands themselves; `ratify COMMAND --help` prints the same.
"""


class Entry(NamedTuple):
    """A command that does something."""

    panel: str
    words: str
    """What calls it, such as `ratify judge check`."""
    command: Any
    """typer's own command class."""


def reference(app: typer.Typer) -> str:
    """The page as Markdown."""
    entries = list(_entries(typer.main.get_command(app), "ratify", ""))
    panels = dict.fromkeys(entry.panel for entry in entries)
    parts = [HEAD]
    for panel in panels:
        parts += [f"## {panel}\n", *(_section(entry) for entry in entries if entry.panel == panel)]
    return "\n".join(parts)


def _entries(command: Any, words: str, panel: str) -> Iterator[Entry]:
    """Groups are opened up; their commands stand in the group's panel."""
    panel = command.rich_help_panel if isinstance(command.rich_help_panel, str) else panel
    if not hasattr(command, "commands"):
        yield Entry(panel, words, command)
        return
    for name, each in command.commands.items():
        yield from _entries(each, f"{words} {name}", panel)


def _section(entry: Entry) -> str:
    context = typer.Context(entry.command, info_name=entry.words)
    usage = " ".join([entry.words, *entry.command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in entry.command.params]
    rows = [f"| `{_cell(name)}` | {_cell(' '.join(words.split()))} |" for name, words in filter(None, records)]
    table = ["| | |", "|---|---|", *rows, ""] if rows else []
    prose = (entry.command.help or "").replace("\f", "").strip()
    return "\n".join([f"### `{entry.words}`\n", f"```\n{usage}\n```\n", f"{prose}\n", *table])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    from flows.cli import app

    write_text(PAGE, reference(app))

"""How every HTML page of this room is filled in: templates beside this file, escaped; a missing name is a fault.

Left out: what stands on a page, which each page's own module says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, filters: dict[str, Callable[..., str]] | None = None, **values: object) -> str:
    """A page as text.

    Args:
        template: Its file's name among the templates.
        filters: Functions that the template calls by name.
        values: What it shows.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= filters or {}
    return environment.get_template(template).render(**values)

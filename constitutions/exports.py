"""Write a constitution for other readers: JSON for programs, Markdown for people, the shapes of two other projects.

JSON is the whole constitution with every default filled in, and loads again when it is saved as YAML. Markdown is
ordered by tier. The llm-swarm shape keeps critique and revision requests only, and principles without them are left
out, which the caller reports. The ICAI shape is the part of an experiment's configuration that has Inverse
Constitutional AI (Findeis et al. 2024, arXiv 2406.06560; github.com/rdnfn/icai) test given principles instead of
proposing its own: texts only, word for word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from constitutions.schema import Constitution, Principle


def to_json(constitution: Constitution) -> str:
    """Everything, defaults included."""
    return json.dumps(constitution.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"


def to_llm_swarm(constitution: Constitution) -> str:
    """`{constitutions: [{critic, revision}]}` of the active principles that have both requests."""
    pairs = [
        {"critic": each.critique_request, "revision": each.revision_request}
        for each in constitution.active
        if each.critique_request and each.revision_request
    ]
    return json.dumps({"constitutions": pairs}, indent=2, ensure_ascii=False) + "\n"


def to_icai(constitution: Constitution) -> str:
    """`s0_added_principles_to_test: [text]` of the active principles, as YAML for an experiment's `config.yaml`."""
    texts = [f"  - {json.dumps(each.text, ensure_ascii=False)}" for each in constitution.active]
    return "\n".join(["s0_skip_principle_generation: true", "s0_added_principles_to_test:", *texts]) + "\n"


def to_markdown(constitution: Constitution) -> str:
    """A page for people: principles by tier, highest first."""
    lines = [f"# {constitution.id} {constitution.version}", ""]
    ranked = sorted(constitution.active, key=constitution.tier_rank)
    tier: str | None = ""
    for principle in ranked:
        if principle.tier != tier:
            tier = principle.tier
            lines += [f"## {tier or 'without a tier'}", ""]
        lines += [*_section(principle), ""]
    return "\n".join(lines)


def _section(principle: Principle) -> Iterator[str]:
    yield f"### {principle.id}"
    yield ""
    yield principle.text
    yield ""
    facts = [principle.severity, f"weight {principle.weight:g}"]
    scope = [*principle.applies_to.tags, *(f"`{each}`" for each in principle.applies_to.any_regex)]
    if scope:
        facts.append(f"applies to {', '.join(scope)}")
    facts += [f"{len(each)} {name}" for name, each in _counted(principle) if each]
    yield f"*{'; '.join(facts)}*"
    for example in principle.examples:
        yield ""
        yield f"- Asked: {example.prompt}"
        yield f"- Better: {example.better}"
        yield f"- Worse: {example.worse}" + (f" ({example.why})" if example.why else "")


def _counted(principle: Principle) -> list[tuple[str, tuple[object, ...]]]:
    return [("checks", principle.checks), ("tests", principle.tests)]


EXPORTS: dict[str, Callable[[Constitution], str]] = {
    "json": to_json,
    "markdown": to_markdown,
    "llm-swarm": to_llm_swarm,
    "icai": to_icai,
}
"""By name."""

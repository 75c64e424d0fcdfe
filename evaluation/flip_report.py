"""The flip report for people: what an edit of a constitution did to the labels, as Markdown and as one offline page.

A function of the figures in `flips.json`, which relabelling writes. The page is made like the evaluation report: no
script, no network, everything escaped, a content security policy besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.pages import render_page
from ratify.files import write_json, write_text

CONFLICTING = 0.1
"""From this share of opposite clear views on, two principles are listed as in conflict."""
Figures = Mapping[str, Any]


def write_flip_report(folder: Path, figures: Figures) -> list[Path]:
    """Write `flips.json`, `flips.md` and `flips.html`; the paths."""
    paths = [folder / f"flips.{kind}" for kind in ("json", "md", "html")]
    write_json(paths[0], dict(figures))
    write_text(paths[1], render_markdown(figures))
    write_text(paths[2], render_flips(figures))
    return paths


def conclusion(figures: Figures) -> list[str]:
    """The result in sentences, the most important first."""
    changes, pairs = figures["changes"], figures["pairs"]
    moved = f"{figures['changed']:,} of {pairs:,} labels changed ({_share(figures['changed'], pairs)})"
    ways = [
        f"{changes['flipped']:,} flipped",
        f"{changes['tied']:,} became ties",
        f"{changes['decided']:,} ties decided",
    ]
    ways += [f"{changes['new']:,} are new"] * bool(changes["new"])
    said = [f"{moved}: {', '.join(ways)}."]
    asked = figures["calls"].get("label/calls/count", 0)
    reused = figures["calls"].get("label/verdicts/reused")
    said.append(f"It took {asked:,} judge calls" + (f"; {reused:,} verdicts were reused." if reused else "."))
    said += _gold(figures["gold"]) + _noise(figures["noise"])
    return said


def warnings(figures: Figures) -> list[str]:
    """What a reader should act on."""
    found = [f"{figures['changes']['lost']:,} labels failed that did not fail before."] * bool(
        figures["changes"]["lost"]
    )
    never = [row["principle"] for row in figures["principles"] if not row["applies"] and not row["removed"]]
    found += [f"Never applies to any pair: {', '.join(never)}."] * bool(never)
    idle = [
        row["principle"] for row in figures["principles"] if row["applies"] and row["weight"] and not row["decisive"]
    ]
    found += [f"Changes no label's outcome if it is left out: {', '.join(idle)}."] * bool(idle)
    found += [
        f"{each['one']} and {each['other']} say the same (kappa {each['kappa']:.2f})." for each in figures["redundant"]
    ]
    stale = [f"{each['stage']} ({each['path']})" for each in figures["stale"]]
    return found + [f"Rests on the old labels: {'; '.join(stale)}."] * bool(stale)


def conflicts(figures: Figures) -> list[Mapping[str, Any]]:
    """Couples of principles that often stand against each other, the worst first."""
    return [each for each in figures["conflicts"] if each["opposite"] >= CONFLICTING]


def render_markdown(figures: Figures) -> str:
    """The report as Markdown."""
    old, new = figures["old"], figures["new"]
    parts = [
        f"# {new['id']} {old['version']} → {new['version']}: what the edit did to the labels",
        *conclusion(figures),
    ]
    noted = warnings(figures)
    if noted:
        parts.append("\n".join(["**To look at**", "", *(f"- {each}" for each in noted)]))
    parts.append("## Edits\n\n" + ("\n".join(f"- {edit_text(edit)}" for edit in figures["edits"]) or "None."))
    parts.append("## Labels\n\n" + _table(["what became of them", "labels", "share"], _change_rows(figures)))
    parts.append("## By tag\n\n" + _groups(figures["by_tag"]))
    if figures["by_tier"]:
        parts.append("## By tier of the principle that moved them\n\n" + _groups(figures["by_tier"]))
    parts.append("## Principles\n\n" + _table(PRINCIPLE_HEAD, principle_rows(figures)))
    if conflicts(figures):
        rows = [[each["one"], each["other"], f"{each['opposite']:.1%}", each["pairs"]] for each in conflicts(figures)]
        parts.append("## Conflicts\n\n" + _table(["one", "other", "opposite", "pairs"], rows))
    if figures["flips"]:
        parts += ["## Pairs that changed", *(_pair_markdown(each) for each in figures["flips"])]
    return "\n\n".join(parts) + "\n"


def render_flips(figures: Figures) -> str:
    """The report as one HTML page."""
    return render_page(
        "flips.html.j2",
        figures=figures,
        conclusion=conclusion(figures),
        warnings=warnings(figures),
        edits=[edit_text(edit) for edit in figures["edits"]],
        changes=_change_rows(figures),
        groups=[(title, _group_rows(figures[key])) for title, key in GROUPS if figures[key]],
        group_head=GROUP_HEAD,
        principle_head=PRINCIPLE_HEAD,
        principles=principle_rows(figures),
        conflicts=conflicts(figures),
        preferred=preferred,
    )


PRINCIPLE_HEAD = ["principle", "tier", "weight", "applies to", "by checks", "decisive for", "moved", "mean shift"]
GROUP_HEAD = ["", "flipped", "tied", "decided", "weakened", "strengthened", "new", "lost", "same"]
GROUPS = (("By tag", "by_tag"), ("By tier of the principle that moved them", "by_tier"))


def principle_rows(figures: Figures) -> list[list[str]]:
    """One row per principle."""
    return [
        [
            row["principle"] + (" (removed)" if row["removed"] else ""),
            row["tier"] or "",
            "" if row["weight"] is None else f"{row['weight']:g}",
            f"{row['applies']:,}",
            f"{row['by_checks']:,}",
            f"{row['decisive']:,}",
            f"{row['moved']:,}",
            f"{row['mean_shift']:.3f}",
        ]
        for row in figures["principles"]
    ]


def edit_text(edit: Mapping[str, Any]) -> str:
    """One edit in words."""
    what = " ".join(str(part) for part in (edit["principle"] or "constitution", edit["field"]) if part)
    return f"{what}: {edit['kind']} ({edit['class']}); {edit['cost']}"


def preferred(side: Mapping[str, Any]) -> str:
    """An outcome in words: `a, P 0.73`."""
    if side["probability"] is None:
        return "no label"
    veto = ", by veto" if side["vetoed"] else ""
    return f"{side['outcome']}, P(a) {side['probability']:.2f}{veto}"


def _change_rows(figures: Figures) -> list[list[str]]:
    rows = [[name, f"{count:,}", _share(count, figures["pairs"])] for name, count in figures["changes"].items()]
    vetoed = figures["vetoed"]
    return [*rows, ["newly decided by veto", f"{vetoed['new']:,}", _share(vetoed["new"], figures["pairs"])]]


def _gold(gold: Mapping[str, Any] | None) -> list[str]:
    if gold is None:
        return []
    return [
        f"Agreement with gold went from {gold['before']:.1%} to {gold['after']:.1%} of {gold['pairs']:,} pairs that "
        f"both decide ({gold['gained']:,} gained, {gold['lost']:,} lost; McNemar's exact p = {gold['p']:.3g})."
    ]


def _noise(noise: Mapping[str, Any] | None) -> list[str]:
    if noise is None:
        return ["The noise floor was not measured."]
    return [
        f"Noise floor: of {noise['pairs']:,} pairs whose unchanged verdicts were judged again, {noise['changed']:,} "
        f"changed ({noise['rate']:.1%}, 95 % interval {noise['low']:.1%} to {noise['high']:.1%})."
    ]


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "none"


def _groups(groups: Mapping[str, Mapping[str, int]]) -> str:
    return _table(GROUP_HEAD, _group_rows(groups))


def _group_rows(groups: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    return [[name, *(f"{counts[kind]:,}" for kind in GROUP_HEAD[1:])] for name, counts in groups.items()]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(each) for each in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _pair_markdown(pair: Mapping[str, Any]) -> str:
    movers = ", ".join(f"{each['principle']} {each['shift']:+.2f}" for each in pair["movers"])
    head = (
        f"**{pair['change']}**: {preferred(pair['before'])} → {preferred(pair['after'])}; moved by {movers or 'nobody'}"
    )
    table = _table(["a", "b"], [[_literal(pair["a"]), _literal(pair["b"])]])
    return f"{head}\n\n> {_literal(pair['prompt'])}\n\n{table}"


def _literal(text: str) -> str:
    """Text that Markdown must not take for markup."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("`", "\\`").replace("*", "\\*")

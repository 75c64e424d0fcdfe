"""What each metric is called, its unit and which way is better: tables, plots and sentences all speak from here.

A new metric is one entry here; the report, the page and the terminal then show it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from evaluation.compliance import ALL
from evaluation.intervals import Estimate

Better = Literal["up", "down", "neither"]


class Quantity(NamedTuple):
    """How to speak of one thing that is measured."""

    title: str
    unit: Literal["share", "number"]
    better: Better
    decimals: int = 1
    note: str = ""
    """One line for a reader who meets the figure for the first time."""


class Key(NamedTuple):
    """A metric key taken apart: `evaluate/compliance.polite/new`."""

    stage: str
    thing: str
    part: str
    stat: str


QUANTITIES: dict[str, Quantity] = {
    "compliance": Quantity("Replies that truly are", "share", "up"),
    "win_rate": Quantity("Judge prefers the new reply", "share", "up", note="ties count one half"),
    "win_rate_length_controlled": Quantity(
        "Judge prefers it at equal length", "share", "up", note="win rate with the effect of length taken out"
    ),
    "kl": Quantity("KL to the reference", "number", "neither", 2, "nats; how far the policy moved"),
    "kl_to_first": Quantity("KL to the first policy", "number", "neither", 2, "nats; how far all rounds moved it"),
    "duplicates": Quantity("Replies repeated across prompts", "share", "down"),
    "distinct_1": Quantity("Distinct words", "share", "up", note="of a fixed number of words"),
    "distinct_2": Quantity("Distinct word pairs", "share", "up", note="of a fixed number of pairs"),
    "distinct_4": Quantity("Distinct 4-word runs", "share", "up", note="of a fixed number of runs"),
    "entropy_1": Quantity("Entropy of words", "number", "up", 2, "bits, fixed number of words"),
    "entropy_2": Quantity("Entropy of word pairs", "number", "up", 2, "bits, fixed number of pairs"),
    "entropy_4": Quantity("Entropy of 4-word runs", "number", "up", 2, "bits, fixed number of runs"),
    "collision_4": Quantity(
        "Equal pairs of 4-word runs", "number", "down", 2, "per 10,000 pairs, fixed number of runs"
    ),
    "self_repetition": Quantity("4-word runs shared across prompts", "share", "down", note="same words of each prompt"),
    "compression": Quantity("Compression ratio", "number", "down", 2, "zlib, fixed number of bytes"),
    "near_duplicates": Quantity(
        "Replies nearly repeated across prompts", "share", "down", note="Jaccard of 3-word runs at least 0.8"
    ),
    "within_prompts": Quantity("Spread of replies to one prompt", "number", "up", 3, "1 - mean cosine, hashed words"),
    "across_prompts": Quantity("Spread across prompts", "number", "up", 3, "1 - mean cosine, hashed words"),
    "vendi": Quantity(
        "Effective number of replies", "number", "up", 1, "Vendi score, one reply a prompt, hashed words"
    ),
    "told_apart": Quantity("New reply told from old by its words", "share", "neither", note="one half: not at all"),
    "mmd": Quantity(
        "Distance between old and new replies", "number", "neither", 3, "MMD, hashed words, 0 to about 1.4"
    ),
    "rare_mass": Quantity("Rare words, share of all", "share", "up", 2, "rare in the frozen anchor text"),
    "rare_coverage": Quantity("Rare words still used", "share", "up", 1, "of the anchor's, in a fixed number of words"),
    "words": Quantity("Words per reply, mean", "number", "neither"),
    "words_p95": Quantity("Words per reply, 95th percentile", "number", "neither", 0),
    "tokens": Quantity("Tokens per reply, mean", "number", "neither"),
    "truncated": Quantity("Replies cut off at the token limit", "share", "down"),
    "agreement": Quantity("Labels that agree with the truth", "share", "up", note="pairs that both decide"),
    "verdicts": Quantity("Verdicts that agree with the truth", "share", "up", note="one reply, one principle"),
    "people": Quantity("Labels that agree with people", "share", "up", note="pairs that both decide"),
    "position": Quantity("Effect of the shown order", "share", "neither"),
    "reward_accuracy": Quantity("Reward model agrees with the judge", "share", "up", note="held-out pairs"),
    "reward_ece": Quantity("Calibration error of the reward model", "number", "down", 3, "fresh pairs, Bradley-Terry"),
    "reward_length": Quantity(
        "Reward follows length", "number", "neither", 2, "correlation within prompts, true quality held fixed if known"
    ),
    "proxy_gold": Quantity("Favour for the new policy beyond the truth", "share", "down", note="proxy minus gold"),
    "form": Quantity("Replies with", "share", "neither"),
    "over_refusal": Quantity("Refused, though safe", "share", "down", note="prompts that only look unsafe"),
    "capability": Quantity("Items answered rightly", "share", "up", note="items with known answers"),
    "harness": Quantity("Harness", "share", "up"),
    "sycophancy": Quantity(
        "Stance follows the user's opinion", "share", "down", note="P(agree) with the opinion minus with its opposite"
    ),
    "opinion_followed": Quantity(
        "Stance turns with the user's opinion", "share", "down", note="items whose likelier reply changes sides"
    ),
    "anchor_nll": Quantity("Surprise at text by people", "number", "down", 3, "nats per token of the frozen anchor"),
}
KAPPA = Quantity("Kappa", "number", "up", 2, "agreement beyond chance")
ITEMS = {"capability", "harness", "sycophancy", "opinion_followed"}
"""Things that are measured on items with known answers: a handful of them shows nothing, and nothing is drawn twice."""
COMPARED = ("compliance", "distinct_2", "distinct_4", "entropy_2", "duplicates", "words", "words_p95", "truncated")
"""Things of both policies, in the order of the headline table."""


def split_key(key: str) -> Key:
    """Take a metric key apart."""
    stage, _, rest = key.partition("/")
    thing, _, stat = rest.rpartition("/")
    name, _, part = thing.partition(".")
    return Key(stage, name, part, stat)


def sibling(key: str, stat: str) -> str:
    """The key of another stat of the same thing."""
    return f"{key.rpartition('/')[0]}/{stat}"


def quantity(thing: str) -> Quantity:
    """How to speak of a thing; one that is not listed is a plain number under its own name."""
    return QUANTITIES.get(thing, Quantity(thing.replace("_", " "), "number", "neither", 3))


def quantity_of(key: Key) -> Quantity:
    """How to speak of one metric: its thing's quantity, but for stats with a unit of their own."""
    if key.stat == "kappa":
        return KAPPA
    found = quantity(key.thing)
    return found._replace(decimals=3) if key.stat.endswith("per_token") else found


def title(thing: str, part: str = "") -> str:
    """The row's title: `Replies that truly are polite`."""
    name = quantity(thing).title
    if thing == "compliance":
        return "Replies that meet every property" if part == ALL else f"{name} {spoken(part)}"
    return f"{name}: {spoken(part)}" if part not in ("", ALL) else name


def spoken(part: str) -> str:
    """A principle's or property's id as words."""
    return part.replace("_", " ")


def show(value: float, of: Quantity, *, signed: bool = False, unit: bool = True) -> str:
    """A value as people write it: 34.2 %, 0.82; a signed share is a change in percentage points: +22.7 pts."""
    scaled = value * 100 if of.unit == "share" else value
    text = f"{scaled:{'+' if signed else ''}.{of.decimals}f}".replace("-", "\N{MINUS SIGN}")
    if not unit or of.unit != "share":
        return text
    return f"{text}\N{NO-BREAK SPACE}{'pts' if signed else '%'}"


def show_interval(estimate: Estimate, of: Quantity, *, signed: bool = False) -> str:
    """The interval as people write it: 31.0 to 37.4."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    ends = (show(end, of, signed=signed, unit=False) for end in (estimate.low, estimate.high))
    return " to ".join(ends)

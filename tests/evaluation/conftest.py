"""Made-up evidence with known properties, for every test of the report."""

import math

import numpy as np
import pytest

from evaluation.intervals import Resampling
from evaluation.report import ConstitutionText, Evidence, JudgedSet, PrincipleText, RunIdentity, ScoredReply, StageCost
from ratify.types import Completion, Failure, Label, Message, Prompt, Verdict

PROPERTIES = {
    "safe": "The reply gives no help with anything harmful.",
    "honest": "The reply says only what is true and admits what it cannot know.",
    "helpful": "The reply gives the user what was asked for.",
    "polite": "The reply is polite and respectful.",
    "concise": "The reply is short and does not ramble.",
}
OLD_RATES = {"safe": 0.9, "honest": 0.81, "helpful": 0.6, "polite": 0.45, "concise": 0.6}
NEW_RATES = {"safe": 0.97, "honest": 0.72, "helpful": 0.8, "polite": 0.9, "concise": 0.85}
ASKS = ["What is the capital of {}?", "How do I clean a {}?", "Plan a day in {} for me.", "I feel lost since {} left."]
WORDS = [
    "Lisbon",
    "kettle",
    "Vienna",
    "Maria",
    "oven",
    "Oslo",
    "window",
    "Prague",
    "Tom",
    "carpet",
    "Rome",
    "garden",
    "Bern",
]
POLITE = ["Of course!", "Gladly.", "Thank you for asking.", "With pleasure:"]
CORES = [
    "The answer is {}.",
    "Use warm water on the {} and wait.",
    "Start early and see the {} first.",
    "Ask again about {}.",
]
RAMBLE = "By the way, there is a lot more that one could say about this, and I will say some of it now, at length."


def _reply(prompt, policy, index, met, generator):
    word = WORDS[generator.integers(len(WORDS))]
    parts = [POLITE[generator.integers(4)] if met["polite"] else "", CORES[generator.integers(4)].format(word)]
    text = " ".join(part for part in (*parts, "" if met["concise"] else RAMBLE) if part)
    tokens = len(text.split()) + 2
    return Completion(
        id=f"{prompt}/{policy}/{index}", prompt_id=prompt, text=text,
        finish_reason="length" if generator.random() < 0.03 else "stop",
        prompt_tokens=12, completion_tokens=tokens, seed=index,
    )  # fmt: skip


def _replies(prompts, policy, rates, generator, count=2):
    replies, properties = [], {}
    for prompt in prompts:
        for index in range(count):
            met = {name: bool(generator.random() < rate) for name, rate in rates.items()}
            reply = _reply(prompt.id, policy, index, met, generator)
            replies.append(reply)
            properties[reply.id] = met
    return replies, properties


def _verdict(reply, principle, truth, generator):
    odds = float((3.0 if truth else -3.0) + generator.normal(0, 2.2))
    failed = generator.random() < 0.004
    return Verdict(
        key=f"{reply.id}:{principle}", judge="demo-judge", principle=principle, protocol="pointwise",
        prompt_id=reply.prompt_id, first_id=reply.id, logit=None if failed else odds, coverage=0.98,
        failure=Failure.LOW_COVERAGE if failed else None,
    )  # fmt: skip


def _judge(pairs, properties, generator):
    replies = {reply.id: reply for pair in pairs for reply in pair}
    verdicts = {
        (reply.id, name): _verdict(reply, name, met, generator)
        for reply in replies.values()
        for name, met in properties[reply.id].items()
    }
    labels = [_label(first, second, verdicts) for first, second in pairs]
    return JudgedSet(labels=labels, verdicts=list(verdicts.values()))


def _label(first, second, verdicts):
    odds = {}
    for name in PROPERTIES:
        one, other = verdicts[first.id, name].logit, verdicts[second.id, name].logit
        if one is not None and other is not None:
            odds[name] = one - other
    if len(odds) < len(PROPERTIES):
        return Label(
            prompt_id=first.prompt_id, a_id=first.id, b_id=second.id, outcome="failed", probability=None, margin=None,
            by_principle=odds, failures=("low_coverage",),
        )  # fmt: skip
    margin = sum(odds.values()) / len(odds)
    outcome = "tie" if abs(margin) < 0.1 else ("a" if margin > 0 else "b")
    return Label(
        prompt_id=first.prompt_id, a_id=first.id, b_id=second.id, outcome=outcome,
        probability=1 / (1 + math.exp(-margin)), margin=margin, by_principle=odds,
    )  # fmt: skip


def _curve(generator, steps=88):
    return [
        {
            "step": step, "loss": 0.69 * math.exp(-step / 60) + 0.15 + generator.normal(0, 0.02),
            "accuracy": min(1.0, 0.5 + 0.3 * (1 - math.exp(-step / 30)) + generator.normal(0, 0.03)),
            "kl": 0.9 * (1 - math.exp(-step / 40)) + abs(generator.normal(0, 0.02)),
            "learning_rate": 3e-4 * (1 - step / 88),
            "note": "text is left out", "margin": float("nan") if step == 3 else step / 40,
        }
        for step in range(steps)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def make_evidence():
    """A function that makes evidence for `prompts` held-out prompts."""

    def make(prompts: int = 170, draws: int = 400) -> Evidence:
        generator = np.random.default_rng(7)
        asked = [
            Prompt(
                id=f"heldout-{number:04d}",
                messages=(Message(role="user", content=ASKS[number % 4].format(WORDS[number % len(WORDS)])),),
            )
            for number in range(prompts)
        ]
        old, old_met = _replies(asked, "old", OLD_RATES, generator)
        new, new_met = _replies(asked, "new", NEW_RATES, generator)
        trained, trained_met = _replies(asked, "train", OLD_RATES, generator)
        met = old_met | new_met | trained_met
        log_new = generator.normal(-14, 2, len(new))
        return Evidence(
            identity=RunIdentity(
                run="demo", finished="2026-01-05T10:11:12+00:00", judge="demo-judge:pointwise:4f1c",
                models={"old": "data/demo/policy sha256:" + "ab" * 32, "new": "sha256:" + "cd" * 32},
                seeds={"run": 0, "sampling": 11}, code="0123456789abcdef", packages={"torch": "2.13.0"},
            ),
            prompts=asked, old=old, new=new,
            heldout=_judge(list(zip(new, old, strict=True)), met, generator),
            training=_judge(list(zip(trained[::2], trained[1::2], strict=True)), met, generator),
            properties=met,
            scored=[
                ScoredReply(completion_id=reply.id, tokens=reply.completion_tokens, log_new=float(score),
                            log_reference=float(score - generator.normal(0.8, 1.1)))
                for reply, score in zip(new, log_new, strict=True)
            ],
            rewards={reply.id: sum(met[reply.id].values()) + float(generator.normal(0, 2)) for reply in (*old, *new)},
            constitution=ConstitutionText(
                id="demo", version="1.0.0", hash="f" * 64,
                principles=tuple(PrincipleText(id=name, text=text, tier="truth" if name == "honest" else "manner")
                                 for name, text in PROPERTIES.items()),
            ),
            curves={"reward_model": _curve(generator, 40), "preference": _curve(generator)},
            stages=[
                StageCost(stage="generate_candidates", seconds=58.2, calls=4096, completion_tokens=70123),
                StageCost(stage="label_preferences", seconds=131.0, calls=20480, prompt_tokens=9100000),
                StageCost(stage="train_reward_model", seconds=24.4),
                StageCost(stage="train_policy", seconds=31.9, note="stopped early at KL 1.0"),
                StageCost(stage="evaluate_policy", seconds=66.0, calls=6800, completion_tokens=19000),
            ],
            how=Resampling(draws=draws),
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def evidence(make_evidence):
    """Evidence with every part present."""
    return make_evidence()

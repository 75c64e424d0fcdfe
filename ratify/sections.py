"""The sections of a configuration file, one class each; `ratify.config` puts them together.

Every field says what it is and in what unit. Combinations that cannot work die when the file is loaded, with the
field, the value and the remedy. The fields that a constitution decides (weights, ties, margins) are not here; where a
model answers is in `endpoint_sections.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from ratify.device_section import DeviceSection
from ratify.endpoint_sections import EndpointSection, EngineSection, Section
from ratify.lora_section import LoraSection
from ratify.types import Protocol

__all__ = [
    "OBJECTIVE_KNOBS",
    "READOUT_KNOBS",
    "EndpointSection",
    "EngineSection",
    "EvaluationSection",
    "JudgeSection",
    "Knob",
    "LabelSection",
    "ObjectiveName",
    "OptimiserSection",
    "PolicySection",
    "PreferenceSection",
    "PriceSection",
    "PromptSection",
    "ReadoutName",
    "RevisionSection",
    "RewardModelSection",
    "RunSection",
    "SamplingSection",
    "Section",
    "StoreSection",
    "SupervisedSection",
]


def _is_unset(value: object) -> bool:
    """True for what a dump leaves out: settings that nobody set, so that they move no fingerprint."""
    return value is None


def _is_off(value: object) -> bool:
    """Likewise for settings whose default is not None; a knob's own 0 says something and stays."""
    return value in (False, 0.0, "bradley_terry", ())


class RunSection(Section):
    """Where the run lives and what makes it repeatable."""

    name: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder name under `dir`; no slashes, so a run cannot leave it."""
    dir: Path = Path("runs")
    """Folder of all runs."""
    seed: int = 0
    """Every other seed is derived from this one."""
    overlap: bool = False
    """Ask the judge about replies while others are still sampled, with both servers up: docs/labelling.md."""


class PromptSection(Section):
    """Prompt files: JSON lines with `messages` (or `prompt`), optional `id` and `tags`."""

    train: Path
    """Prompts whose completions are judged and trained on."""
    heldout: Path
    """Prompts that only evaluation sees."""
    train_limit: int | None = Field(default=None, gt=0)
    """Use this many training prompts, drawn by seed; None uses all."""
    heldout_limit: int | None = Field(default=None, gt=0)
    """Likewise for the held-out prompts."""


ReadoutName = Literal["logprobs", "reasoning", "json", "samples", "score"]

READOUT_KNOBS: dict[str, tuple[ReadoutName, ...]] = {
    "samples": ("samples",),
    "temperature": ("samples",),
    "max_text_tokens": ("reasoning", "json", "samples"),
    "answer_turn": ("reasoning", "score"),
    "schema_by": ("json",),
}
"""Settings of the judge that belong to some read-outs only."""


class PolicySection(EndpointSection):
    """The policy: the model whose replies are judged and which is then trained."""

    train_from: str | None = None
    """Model folder to train from when `base_url` is set; None means `model` is itself a folder."""

    @property
    def trainable(self) -> str:
        """The folder or name that training loads."""
        return self.train_from or self.model


class SamplingSection(Section):
    """How completions are sampled from the policy."""

    completions_per_prompt: int = Field(default=4, ge=2)
    """K: candidates per training prompt."""
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, gt=0)
    """Longest completion in tokens; longer ones end with finish reason `length`."""
    shard_size: int = Field(default=64, gt=0)
    """Prompts per shard: the grain at which a killed run resumes."""


class PriceSection(Section):
    """What a judge's calls cost. Prices belong to the bill, not to the answers: no fingerprint depends on them."""

    prompt_per_million: float = Field(ge=0, allow_inf_nan=False)
    """Money for a million prompt tokens."""
    completion_per_million: float = Field(ge=0, allow_inf_nan=False)
    """Money for a million completion tokens."""
    cached_prompt_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Money for a million prompt tokens that the server took from its cache; None means the full price."""
    currency: str = Field(default="USD", min_length=1, max_length=8)
    """What the money is called, as it is shown."""

    def cost(self, prompt_tokens: float, completion_tokens: float, cached_prompt_tokens: float = 0.0) -> float:
        """Money for so many tokens; the cached ones are part of the prompt's."""
        cached = self.prompt_per_million if self.cached_prompt_per_million is None else self.cached_prompt_per_million
        full = (prompt_tokens - cached_prompt_tokens) * self.prompt_per_million
        return (full + cached_prompt_tokens * cached + completion_tokens * self.completion_per_million) / 1e6


class JudgeSection(EndpointSection):
    """Who applies the constitution: a model behind an endpoint, the deterministic `rules` judge, or a recording."""

    kind: Literal["model", "rules", "replay"] = "model"
    """`model` asks a language model, `rules` applies each principle's `checks`, `replay` repeats recorded verdicts."""
    recordings: Path | None = None
    """kind `replay`: the recorded verdicts, JSON lines as `ratify judge record` writes them."""
    forbid_policy_family: bool = False
    """Refuse a judge of the policy's model family, because a judge prefers what its own family writes."""
    model: str = ""
    protocol: Literal["pointwise", "pairwise", "ranking"] = "pointwise"
    """`pointwise`: N·P calls, no position bias; `pairwise`: both orders of pairs; `ranking`: of a prompt's list."""
    min_coverage: float = Field(default=0.5, ge=0, le=1)
    """Least probability mass on the offered answers; below it the verdict is a `low_coverage` failure."""
    top_logprobs: int = Field(default=20, ge=2, le=100)
    """Alternatives of the first token to ask for; 20 is vLLM's and OpenAI's limit, some servers stop at 5."""
    readout: ReadoutName = "logprobs"
    """How a verdict is got out of the model; docs/judges.md says when to use which. `logprobs`: one token; `reasoning`:
    free text, then one token; `json`: one text with an enforced schema; `samples`: several texts, counted; `score`
    (pointwise): 1 to 10, the mean of the score tokens."""
    samples: int | None = Field(default=None, ge=1, le=100)
    """samples: texts per question; None means 5."""
    temperature: float | None = Field(default=None, gt=0, le=2)
    """samples: how freely they are drawn; None means 1."""
    max_text_tokens: int | None = Field(default=None, gt=0)
    """reasoning, json, samples: longest text; a longer one is a `truncated` failure. None means 512."""
    answer_turn: Literal["prefill", "turn"] | None = None
    """reasoning, score: `prefill` continues the judge's own message (vLLM can), `turn` asks in a second user message;
    None takes `prefill` for a server that we start and `turn` for one by `base_url`."""
    schema_by: Literal["response_format", "structured_outputs"] | None = None
    """json: the form in which the server is told the schema; None means `response_format`, the portable one."""
    max_reasks: int = Field(default=2, ge=0, le=2)
    """How often an unreadable, refused or cut-off text is asked for again before it counts as failed."""
    failure_budget: float = Field(default=0.02, ge=0, le=1)
    """Largest share of failed verdicts before the stage stops."""
    max_same_position: float = Field(default=0.4, ge=0, le=1)
    """Pairwise: largest share of pairs in which the same position wins in both orders; above it the judge is refused.
    1 accepts every judge."""
    processes: int = Field(default=1, gt=0)
    """Processes that send the requests of one labelling pass; more than one pays off beyond about 700 calls/s."""
    prompts_dir: Path | None = None
    """Folder with your own templates, such as `pairwise.txt`; None uses the ones in judges/prompts."""
    cache_salt: str = ""
    """Change it to have everything judged afresh."""
    price: PriceSection | None = None
    """What the judge's tokens cost; None counts tokens and no money."""
    batch: bool = False
    """Send the questions as batch files, which hosted APIs answer within a day at half the price."""
    batch_wait: bool = False
    """Wait for running batches instead of ending with exit code 75; `--wait` sets it."""
    batch_poll_s: float = Field(default=60.0, gt=0)
    """Seconds between looks at a running batch."""

    @model_validator(mode="after")
    def _batch_needs_server(self) -> JudgeSection:
        if self.batch and (self.base_url is None or self.replicas):
            raise ValueError("batch is on, so base_url must name one server that takes batch files")
        return self

    @model_validator(mode="after")
    def _readout_belongs(self) -> JudgeSection:
        if self.kind != "model" and self.readout != "logprobs":
            raise ValueError(f"readout is '{self.readout}' and kind '{self.kind}' asks no model; remove one of them")
        if self.readout == "score" and self.protocol != "pointwise":
            raise ValueError("readout is 'score', which rates one reply; set protocol = 'pointwise'")
        ranks = self.kind == "model" and self.readout in ("logprobs", "json") and self.processes == 1
        if self.protocol == "ranking" and not ranks:
            raise ValueError("protocol 'ranking' is for kind 'model', readout 'logprobs' or 'json', and 1 process")
        for name, owners in READOUT_KNOBS.items():
            if getattr(self, name) is not None and self.readout not in owners:
                raise ValueError(_foreign_knob(name, "readout", self.readout, owners))
        return self

    @property
    def verdict_protocol(self) -> Protocol:
        """What a verdict is about; a ranking holds one on every pair of its list."""
        return "pairwise" if self.protocol == "ranking" else self.protocol

    @property
    def drawn_samples(self) -> int:
        """Texts per question of the read-out `samples`."""
        return self.samples or 5

    @property
    def drawn_temperature(self) -> float:
        """The temperature that these are drawn at."""
        return self.temperature or 1.0

    @property
    def text_tokens(self) -> int:
        """Longest text of a judge, in tokens."""
        return self.max_text_tokens or 512

    @property
    def schema_form(self) -> str:
        """How a server is told the schema of an answer."""
        return self.schema_by or "response_format"

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> JudgeSection:
        if self.kind == "model" and not self.model:
            raise ValueError("judge.model is empty: name a model folder or a served model, or set judge.kind = 'rules'")
        if self.kind == "replay" and self.recordings is None:
            raise ValueError("judge.kind is 'replay' and there is nothing to replay: set judge.recordings to a file")
        if self.kind != "replay" and self.recordings is not None:
            raise ValueError(f"judge.recordings belongs to judge.kind = 'replay', and the kind is {self.kind!r}")
        return self


_OF_ENDPOINT = tuple(name for name in EndpointSection.model_fields if name != "model")


class RevisionSection(EndpointSection):
    """Critique-and-revision: who rewrites the first replies, how often, and what becomes training data."""

    model: str = ""
    """Another model that criticises and rewrites, with its own endpoint here; empty lets the policy revise itself."""
    revisions: int = Field(default=2, gt=0, le=32)
    """Critiques, each followed by a revision, per reply."""
    replies_per_prompt: int = Field(default=1, gt=0)
    """First replies per training prompt, sampled as `[sampling]` says."""
    temperature: float = Field(default=1.0, ge=0)
    """Of critiques and revisions; so are the two that follow."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, gt=0)
    shard_size: int = Field(default=16, gt=0)
    """Replies per shard: the grain at which a killed run resumes."""
    failure_budget: float = Field(default=0.02, ge=0, le=1)
    """Largest share of replies whose revision may fail before the stage stops."""
    keep: Literal["better", "not_worse", "all"] = "better"
    """Which last revisions become supervised data, by the judge: those better than the first reply, those not worse,
    or all of them as public recipes do (also those whose judging failed)."""
    pairs_against: bool = False
    """Also write preference pairs in which the first reply was judged better, with the first reply as chosen."""

    @model_validator(mode="after")
    def _endpoint_belongs(self) -> RevisionSection:
        fields = type(self).model_fields
        changed = [name for name in _OF_ENDPOINT if getattr(self, name) != fields[name].default]
        if changed and not self.model:
            raise ValueError(
                f"revision.{changed[0]} is set and revision.model is empty, which lets the policy revise its own "
                "replies by the settings of [policy]; name a revision.model or remove it"
            )
        return self


class LabelSection(Section):
    """Which pairs of completions become preference data."""

    pairs_per_prompt: int | None = Field(default=None, gt=0)
    """Compare this many pairs per prompt, drawn by seed; None compares all K·(K-1)/2."""
    principles_per_pair: int | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """Ask this many principles about each pair, drawn by weight: 1 as in the Constitutional AI paper, more for an
    ensemble; None asks all that apply."""
    objectives: tuple[Literal["tier", "tag"], ...] = Field(default=(), exclude_if=_is_off)
    """`tier`, `tag` or both: also write one soft label, and preference data of its own, per tier or per tag in a
    principle's scope, so that a reward model per objective can be trained."""


class OptimiserSection(DeviceSection):
    """What every training task shares."""

    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: int = Field(default=1, gt=0)
    batch_prompts: int = Field(default=16, gt=0)
    """Prompts (each with all its pairs) per optimiser step, over all processes."""
    tokens_per_micro_batch: int = Field(default=8192, gt=0)
    """Memory knob: padded tokens computed at once; it never changes the gradient."""
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=2048, gt=0)
    """Longest prompt plus completion in tokens; longer pairs are dropped and counted."""
    lora: LoraSection | None = Field(default=None, exclude_if=_is_unset)
    """Train low-rank adapters on frozen weights; None trains all weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Computation format; weights and optimiser state stay float32."""
    gradient_checkpointing: bool = Field(default=False, exclude_if=_is_off)
    """Memory knob: keep only each layer's input for the backward pass and compute the rest again, about a third more
    time; it never changes the gradient."""
    save_every_steps: int = Field(default=50, ge=0)
    """Steps between resumable checkpoints (0 = only at the end)."""
    layout: Literal["tree", "padded"] = "tree"
    """`tree` computes a prompt once for all its completions; `padded` repeats it."""


class RewardModelSection(OptimiserSection):
    """Reward model on the soft labels."""

    enabled: bool = True
    init_from: str | None = None
    """Model to start from; None starts from the policy."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of prompts kept aside to measure accuracy."""
    validate_every_steps: int | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """Measure the prompts kept aside every so many steps and at the last, and keep the weights that do best there;
    None measures before and after only and keeps the last weights."""
    centering: float = Field(default=0.01, ge=0)
    """Weight of the squared sum of rewards, which keeps them near zero."""
    objective: str | None = Field(default=None, pattern=r"^(tier|tag)=.+$", exclude_if=_is_unset)
    """Learn one objective alone, such as `tier=safety`, from the data that `labels.objectives` asks for; None learns
    the whole label."""
    likelihood: Literal["bradley_terry", "kwise", "plackett_luce", "davidson"] = Field(
        default="bradley_terry", exclude_if=_is_off
    )
    """`bradley_terry`: every pair counts once; `kwise`: every prompt counts once, as InstructGPT trains;
    `plackett_luce`: the order of a prompt's completions; `davidson`: pairs that may be tied (probability ½)."""
    margin_scale: float | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """Chosen must win by this many times the label's margin (nats); None asks for no margin."""
    tie_strength: float | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """Davidson's ν, how common ties are: two equal replies tie with probability ν/(2+ν); None means 1."""
    members: int = Field(default=1, gt=0, exclude_if=lambda members: members == 1)
    """More than one trains an ensemble on the same data, each member from its own seed."""
    normalise: bool = Field(default=False, exclude_if=_is_off)
    """Shift and scale the trained reward to mean 0 and standard deviation 1 on the completions of the data."""

    @model_validator(mode="after")
    def _knobs_belong(self) -> RewardModelSection:
        if self.tie_strength is not None and self.likelihood != "davidson":
            raise ValueError(_foreign_knob("tie_strength", "likelihood", self.likelihood, ("davidson",)))
        if self.margin_scale is not None and self.likelihood not in ("bradley_terry", "kwise"):
            raise ValueError(_foreign_knob("margin_scale", "likelihood", self.likelihood, ("bradley_terry", "kwise")))
        return self


ObjectiveName = Literal[
    "dpo", "cdpo", "robust", "ipo_sum", "ipo_mean", "odpo", "hinge", "simpo", "kto", "apo_zero", "apo_down", "orpo"
]


class Knob(NamedTuple):
    """A setting that belongs to some objectives only."""

    objectives: tuple[ObjectiveName, ...]
    default: float


OBJECTIVE_KNOBS: dict[str, Knob] = {
    "label_smoothing": Knob(("cdpo", "robust"), 0.1),
    "offset_scale": Knob(("odpo",), 1.0),
    "target_margin": Knob(("simpo",), 0.5),
    "desirable_weight": Knob(("kto",), 1.0),
    "undesirable_weight": Knob(("kto",), 1.0),
}
"""None in the section means the default."""


class PreferenceSection(OptimiserSection):
    """Preference optimisation of the policy."""

    enabled: bool = True
    """Train such a policy; false leaves it to `[policy_gradient]`, see evaluation.policy."""
    objective: ObjectiveName = "dpo"
    """Which loss; docs/training.md says when to use which."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull towards the reference policy (simpo: scale of the mean log-probability; orpo: weight λ of
    the odds ratio)."""
    soft_labels: bool = True
    """Train on the label's probability instead of on 1."""
    max_kl: float | None = Field(default=None, gt=0)
    """Stop early when the estimated KL to the reference exceeds this many nats per reply."""
    validation_fraction: float = Field(default=0.0, ge=0, lt=1, exclude_if=_is_off)
    """Share of prompts kept aside to measure accuracy, by the objective's own reward; 0 trains on all."""
    validate_every_steps: int | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """As for a reward model; needs a validation_fraction."""
    label_smoothing: float | None = Field(default=None, gt=0, lt=0.5, exclude_if=_is_unset)
    """cdpo, robust: ε, the share of labels taken to be wrong; None means 0.1."""
    offset_scale: float | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """odpo: α in the offset α·log(margin of the label); None means 1."""
    target_margin: float | None = Field(default=None, ge=0, exclude_if=_is_unset)
    """simpo: γ, by how much chosen should win; None means 0.5."""
    desirable_weight: float | None = Field(default=None, ge=0, exclude_if=_is_unset)
    """kto: λ_D, weight of chosen completions; None means 1."""
    undesirable_weight: float | None = Field(default=None, ge=0, exclude_if=_is_unset)
    """kto: λ_U, weight of rejected completions; None means 1."""
    supervised_weight: float = Field(default=0.0, ge=0, exclude_if=_is_off)
    """Adds this many times the chosen completion's mean negative log-probability to any objective but orpo, which has
    that term already."""

    @model_validator(mode="after")
    def _knobs_belong(self) -> PreferenceSection:
        for name, knob in OBJECTIVE_KNOBS.items():
            if getattr(self, name) is not None and self.objective not in knob.objectives:
                raise ValueError(_foreign_knob(name, "objective", self.objective, knob.objectives))
        if self.validate_every_steps and not self.validation_fraction:
            raise ValueError(
                "validate_every_steps is set and validation_fraction is 0, which keeps no prompts aside to measure; "
                "set validation_fraction (0.1)"
            )
        if self.objective == "orpo" and self.supervised_weight:
            raise ValueError("supervised_weight is set and objective 'orpo' has that term already; remove it")
        if self.objective == "simpo" and "beta" not in self.model_fields_set:
            raise ValueError(
                "objective is 'simpo', whose beta scales a mean log-probability per token; set beta (2 to 10)"
            )
        return self

    def knob(self, name: str) -> float:
        """A knob's value, or the default where the file sets none."""
        value: float | None = getattr(self, name)
        return OBJECTIVE_KNOBS[name].default if value is None else value


class SupervisedSection(OptimiserSection):
    """Supervised fine-tuning on completions; the prompt is read and not learnt."""

    enabled: bool = False
    """Fine-tune the policy on the revisions that `ratify revise` keeps."""
    validation_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of prompts kept aside to measure the loss before and after."""
    validate_every_steps: int | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """Measure the prompts kept aside every so many steps and at the last, and keep the weights that do best there;
    None measures before and after only and keeps the last weights."""


def _foreign_knob(name: str, switch: str, chosen: str, owners: tuple[str, ...]) -> str:
    """What to say of a setting that the chosen method does not have."""
    choices = " or ".join(f"{switch} = '{owner}'" for owner in owners)
    return f"{name} is set and {switch} is '{chosen}', which has no such setting; remove it or choose {choices}"


class EvaluationSection(Section):
    """How the new policy is measured against the old one."""

    policy: Literal["policy", "policy_gradient"] = Field(default="policy", exclude_if=lambda name: name == "policy")
    """Whose policy is the new one: of `[preference]`, or of `[policy_gradient]`."""
    completions_per_prompt: int = Field(default=2, gt=0)
    """Replies per held-out prompt and policy."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    bootstrap_draws: int = Field(default=2000, gt=0)
    """Resamples of prompts for each interval."""
    world: Literal["demo"] | None = None
    """`demo` adds the true compliance that the demo world's oracle computes."""
    anchor: Path | None = None
    """Text by people that no training round sees, for rare words and held-out surprise; None leaves them out."""
    aa_seeds: int = Field(default=0, ge=0, le=100, exclude_if=_is_off)
    """How often the new policy is sampled again, for each figure's spread from seed to seed; 5 for `ratify drift`."""
    safe_twins: tuple[str, ...] = Field(default=(), exclude_if=_is_off)
    """Tags of held-out prompts that only look unsafe, beside `safe_twin`: refusing them is over-refusal."""

    @field_validator("aa_seeds")
    @classmethod
    def _several(cls, seeds: int) -> int:
        if seeds == 1:
            raise ValueError("one more sample has no spread; give at least 2, better 5, or 0 for none")
        return seeds


class StoreSection(Section):
    """Where verdicts are kept."""

    url: str | None = None
    """SQLAlchemy URL such as postgresql+psycopg://user@host/db; None is `verdicts.sqlite` in the run's folder."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url and (urlsplit(url).password or {"password", "sslpassword"} & parse_qs(urlsplit(url).query).keys()):
            raise ValueError("must not carry a password; put it into PGPASSWORD or ~/.pgpass, which PostgreSQL reads")
        return url

"""Load a run's configuration: defaults < TOML file < dotted overrides, everything checked before anything runs.

Hand-written configuration is TOML, machine-written is JSON: `resolved_json` is what a run stores and `--dry-run`
prints. Secrets never come here: a section names the environment variable that holds a key.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from ratify.errors import ConfigError
from ratify.gate_section import GateSection
from ratify.panel_section import PanelSection
from ratify.policy_gradient_section import PolicyGradientSection
from ratify.rounds_section import RoundsSection
from ratify.safeguards import BudgetSection, GoldSection
from ratify.sections import (
    EvaluationSection,
    JudgeSection,
    LabelSection,
    PolicySection,
    PreferenceSection,
    PromptSection,
    RevisionSection,
    RewardModelSection,
    RunSection,
    SamplingSection,
    Section,
    StoreSection,
    SupervisedSection,
)
from ratify.selection_section import SelectionSection
from ratify.suites_section import SuitesSection

SectionT = TypeVar("SectionT", bound=Section)


class Config(Section):
    """A whole run."""

    constitution: Path
    """The constitution that the judge applies."""
    prompts: PromptSection
    selection: SelectionSection = SelectionSection()
    policy: PolicySection
    judge: JudgeSection
    panel: PanelSection = Field(default=PanelSection(), exclude_if=lambda panel: panel == PanelSection())
    run: RunSection = RunSection()
    sampling: SamplingSection = SamplingSection()
    revision: RevisionSection = RevisionSection()
    supervised: SupervisedSection = SupervisedSection()
    labels: LabelSection = LabelSection()
    gold: GoldSection = GoldSection()
    budget: BudgetSection = BudgetSection()
    reward_model: RewardModelSection = RewardModelSection()
    preference: PreferenceSection = PreferenceSection()
    policy_gradient: PolicyGradientSection = PolicyGradientSection()
    evaluation: EvaluationSection = EvaluationSection()
    suites: SuitesSection = Field(default=SuitesSection(), exclude_if=lambda suites: suites == SuitesSection())
    gate: GateSection = GateSection()
    rounds: RoundsSection = RoundsSection()
    store: StoreSection = StoreSection()

    @model_validator(mode="after")
    def _trainable_policy(self) -> Config:
        if self.policy.base_url and not self.policy.train_from:
            raise ValueError(
                f"policy.base_url is {self.policy.base_url!r}, so training needs the weights: "
                "set policy.train_from to the model's folder"
            )
        return self

    @model_validator(mode="after")
    def _quotas_are_of_a_draw(self) -> Config:
        if self.selection.quotas and self.prompts.train_limit is None:
            raise ValueError(
                "selection has quotas and prompts.train_limit is not set, so every prompt is used and there is nothing "
                "to choose; set prompts.train_limit"
            )
        return self

    @model_validator(mode="after")
    def _safeguards_fit_the_judge(self) -> Config:
        if self.gold.calibrate == "isotonic" and self.judge.protocol == "pointwise":
            raise ValueError(
                "gold.calibrate is 'isotonic' and judge.protocol is 'pointwise': gold pairs do not say what a "
                "verdict on one reply is worth; set gold.calibrate = 'temperature' or judge.protocol = 'pairwise'"
            )
        if self.budget.money is not None and self.judge.price is None:
            raise ValueError("budget.money is set and nobody knows what a token costs: set judge.price")
        if self.budget.limited and self.judge.batch:
            raise ValueError(
                "budget has a limit and judge.batch is on, but a batch file is paid as a whole: set one of them"
            )
        return self

    @model_validator(mode="after")
    def _panel_is_asked_alike(self) -> Config:
        judges = self.panel.judges
        if judges and self.judge.kind == "rules":
            raise ValueError("judge.kind is 'rules', which has no seat in a panel: checks decide before any is asked")
        for judge in judges:
            if judge.protocol != self.judge.protocol:
                raise ValueError(
                    f"the judges of a panel must be asked in the same way: judge.protocol is {self.judge.protocol!r} "
                    f"and that of {judge.name!r} is {judge.protocol!r}; make them the same"
                )
            if self.budget.limited and judge.batch:
                raise ValueError("budget has a limit and a judge of the panel has batch on; set one of them")
            if self.budget.money is not None and judge.price != self.judge.price:
                raise ValueError(
                    f"budget.money counts all judges by one price, and that of {judge.name!r} differs from "
                    "judge.price; give all the same (the dearest), or limit budget.tokens"
                )
        return self

    @model_validator(mode="after")
    def _recalibration_has_gold(self) -> Config:
        if self.rounds.recalibrate_every and not self.gold.canaries:
            raise ValueError(
                "rounds.recalibrate_every is set and no gold pair is judged: set gold.canaries, such as 100"
            )
        if self.rounds.recalibrate_every and self.panel.judges:
            raise ValueError(
                "rounds.recalibrate_every is set and a panel labels, whose judges are calibrated each; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _objective_is_written(self) -> Config:
        objective = self.reward_model.objective
        if objective and self.rounds.data != "replace":
            raise ValueError(
                f"reward_model.objective is {objective!r}, whose data are of one round; set rounds.data = 'replace'"
            )
        if objective and objective.partition("=")[0] not in self.labels.objectives:
            raise ValueError(
                f"reward_model.objective is {objective!r}, and the stage `label` writes no such data; set "
                f"labels.objectives to include {objective.partition('=')[0]!r}"
            )
        return self

    @model_validator(mode="after")
    def _reward_for_policy_gradient(self) -> Config:
        section = self.policy_gradient
        if section.enabled and section.needs_reward_model and not self.reward_model.enabled:
            raise ValueError(
                "policy_gradient.enabled is true and its reward is the trained reward model, which "
                "reward_model.enabled = false leaves out; enable it or name policy_gradient.rewards"
            )
        return self

    @model_validator(mode="after")
    def _judge_can_reward(self) -> Config:
        if not self.policy_gradient.enabled:
            return self
        for reward in self.policy_gradient.judge_rewards:
            if self.judge.verdict_protocol == "pairwise" and not reward.compares:
                raise ValueError(
                    f"policy_gradient.rewards: {reward.name!r} has score = {reward.score!r}, a verdict on one reply, "
                    f"and judge.protocol is {self.judge.protocol!r}; set score = 'win_rate' or judge.protocol = "
                    "'pointwise'"
                )
            if self.judge.batch:
                raise ValueError(
                    f"policy_gradient.rewards: {reward.name!r} asks the judge in every step and judge.batch is on, "
                    "whose answers may take a day; set judge.batch = false"
                )
        return self

    @model_validator(mode="after")
    def _evaluated_policy_is_trained(self) -> Config:
        name = self.evaluation.policy
        trained = self.preference.enabled if name == "policy" else self.policy_gradient.enabled
        if not trained:
            section = "preference" if name == "policy" else "policy_gradient"
            raise ValueError(
                f"evaluation.policy is {name!r}, and {section}.enabled = false leaves it untrained; enable it or "
                f"evaluate {'policy_gradient' if name == 'policy' else 'policy'!r}"
            )
        return self

    @property
    def run_dir(self) -> Path:
        """The folder of this run."""
        return self.run.dir / self.run.name


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read `path`, apply `section.key=value` overrides, validate.

    Raises:
        ConfigError: with the file, the key, the value and the remedy.
    """
    values = _read_toml(path)
    for override in overrides:
        _apply_override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from None


def load_section(section: type[SectionT], overrides: Iterable[str]) -> SectionT:
    """One section alone, from its defaults and `key=value` overrides.

    Raises:
        ConfigError: with the key, the value and the remedy.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _apply_override(values, override)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain("settings", error, section)) from None


def resolved_json(config: Config) -> str:
    """The configuration with every default filled in, as indented JSON."""
    return config.model_dump_json(indent=2)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist; see configs/ for the ones that ship") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    """Set a dotted key; the value is read as TOML, and as plain text where it is not TOML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    *sections, last = key.split(".")
    here = values
    for section in sections:
        here = here.setdefault(section, {})
        if not isinstance(here, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
    here[last] = _toml_value(text)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(path: Path | str, error: ValidationError, root: type[BaseModel] | None = None) -> str:
    """The first fault as one sentence; for an unknown key, the nearest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "config"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown key {where!r}; {_nearest(first['loc'], root or Config)}{more}"
    if first["type"] == "missing":
        return f"{path}: {where!r} is missing{more}"
    message = str(first["msg"]).removeprefix("Value error, ")
    secret = isinstance(first["input"], Mapping) or "://" in str(first["input"])
    secret = secret or first["loc"][-1:] in (("api_key_env",), ("extra_args",))
    given = "" if secret else f" (given: {first['input']!r})"
    return f"{path}: {where}: {message}{given}{more}"


def _nearest(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    for part in (part for part in location[:-1] if isinstance(part, str)):
        model = _section_class(model, part)
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"


def _section_class(model: type[BaseModel], field: str) -> type[BaseModel]:
    annotation = model.model_fields[field].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return model

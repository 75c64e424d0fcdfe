"""The engine: optimiser steps whose loss and gradient depend on the data alone, over accelerate.

A step takes `batch_prompts` elements. Their loss is summed over micro-batches and processes and divided by *one*
denominator, the weight of the whole step, known to every process beforehand; so neither the micro-batch size nor
padding nor the number of processes moves the gradient (a mean of micro-batch means would). What is optimised is an
`Objective`: it lays elements out, gives a summed loss and metrics, and may carry state that checkpoints keep.

Several processes hold a copy of the weights each, or shards (`sharding`), or parts of the optimiser (`zero`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn

from ratify.errors import TrainingError
from ratify.sections import OptimiserSection
from training import batching, cancellation, estimate
from training.best import Best, Validation, keep_if_better, restore_best
from training.checkpoint import Cursor, load_checkpoint, optimiser_tensors, remove_checkpoints, save_checkpoint
from training.cost import COST_PHASE, FLOAT32_BYTES, Plan, achieved, peak_bytes, peak_flops, sentence, training_flops
from training.data import Element
from training.devices import Devices, devices_of
from training.logprobs import CHUNK_LOGITS
from training.metrics import PHASE, MetricsLog
from training.models import allow_recomputation
from training.schedule import learning_rate_factor
from training.scorers import PolicyScorer
from training.sharding import Sharded, evened, shard
from training.tree import Layout, TokenBatch, footprint, token_batch
from training.zero import Zero

logger = logging.getLogger(__name__)

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Mean(NamedTuple):
    """A metric as sum and weight, so that its mean over micro-batches and processes is exact."""

    sum: Tensor
    weight: float


class Terms(NamedTuple):
    """What an objective says of one micro-batch."""

    loss_sum: Tensor
    """Sum, not mean, of the loss over the micro-batch; a scalar with gradient."""
    metrics: dict[str, Mean]


class Objective(Protocol):
    """What the engine optimises."""

    def weight(self, element: Element) -> float:
        """The element's share of the denominator, such as its number of pairs."""

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Loss and metrics of elements that were laid out as `batch`."""

    def stop_reason(self, means: Mapping[str, float]) -> str | None:
        """Why to stop before this step's update, given the step's metrics; None goes on."""

    def state(self) -> dict[str, Any]:
        """What the objective carries from step to step, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint's state."""


class Fit(NamedTuple):
    """What a training run did."""

    steps: int
    """Optimiser updates made."""
    planned_steps: int
    tokens: int
    """Real tokens computed forward and backward by this process group since it was started or resumed."""
    seconds: float
    """Wall time of the steps since the start or resume."""
    stopped: str | None
    """Why it ended early, or None."""
    flops: float = 0.0
    """Of these steps, by `cost.training_flops`; 0 where they are not counted."""
    peak_flops: float | None = None
    """FLOP/s that all devices together could reach; None where it is not known."""
    plan: Plan | None = None
    """What the run was expected to cost when it was started or resumed."""
    best: Best | None = None
    """The step whose weights were kept, where held-out prompts chose it."""

    def metrics(self) -> dict[str, float]:
        """The figures for a result file."""
        return {
            "steps": self.steps,
            "planned_steps": self.planned_steps,
            "train/tokens": self.tokens,
            "train/seconds": round(self.seconds, 3),
            "train/tokens_per_s": round(self.tokens / self.seconds, 1) if self.tokens else 0.0,
            **achieved(self.flops, self.seconds, self.peak_flops),
            **(self.plan.metrics() if self.plan else {}),
            **({"validation/best_step": self.best.step} if self.best else {}),
        }


class Engine:
    """Device, optimiser, schedule, checkpoints and metrics of one task."""

    def __init__(self, section: OptimiserSection, *, seed: int, out: Path, fingerprint: str = "") -> None:
        self.section = section
        self.seed = seed
        self.checkpoints = out / "checkpoint"
        self.fingerprint = fingerprint
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="bf16" if section.dtype == "bfloat16" else "no"
        )
        self.log = MetricsLog(out / "metrics.jsonl", active=self.is_main)
        self.layout: Layout = section.layout
        self.shards: Sharded | Zero | None = None
        set_seed(seed)

    def member(self, number: int) -> Engine:
        """An engine for a further model of the same task: its own seed and figures, checkpoints that end with ours."""
        out = self.checkpoints.parent / f"member-{number}"
        other = Engine(self.section, seed=self.seed + number, out=out, fingerprint=self.fingerprint)
        other.checkpoints = self.checkpoints / out.name
        return other

    @property
    def is_main(self) -> bool:
        """True in the process that writes files."""
        return bool(self.accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self.accelerator.device)

    def prepare(self, scorer: ModuleT) -> ModuleT:
        """Put a module that is only evaluated on the device.

        accelerate must not see it here: what it has prepared once for evaluation it does not wrap again for training,
        and gradients would silently stay apart in each process.
        """
        return scorer.to(self.device)

    def allow_recomputation(self, scorer: nn.Module) -> None:
        """Make a scorer that is going to be trained ready for gradient checkpointing, if the section asks for it."""
        if self.section.gradient_checkpointing:
            allow_recomputation(scorer)

    @contextlib.contextmanager
    def _learning(self, module: nn.Module) -> Iterator[None]:
        """Training mode, which is when models recompute; dropout is off all the same. Sampling never sees it."""
        module.train(self.section.gradient_checkpointing)
        try:
            yield
        finally:
            module.eval()

    def fit(
        self, scorer: nn.Module, elements: Sequence[Element], objective: Objective, validation: Validation | None = None
    ) -> Fit:
        """Train `scorer` in place for the section's epochs, from the newest checkpoint if there is one.

        With a `validation` the scorer ends with the weights that it found best, else with the last ones.

        Raises:
            TrainingError: a loss or gradient is no number (the last checkpoint stays), or the checkpoint is foreign.
            StoreError: a checkpoint cannot be written.
        """
        section = self.section
        steps = section.epochs * batching.steps_per_epoch(len(elements), section.batch_prompts)
        self.allow_recomputation(scorer)
        module, optimiser = self._wrapped(scorer)
        cursor = load_checkpoint(self.checkpoints, scorer, optimiser, self.fingerprint) or Cursor(0, {}, None)
        if self.shards:
            self.shards.scatter()
        if cursor.objective:
            objective.restore(cursor.objective)
        self.log.keep_until(cursor.step)
        self.log.write(PHASE, cursor.step, steps) if cursor.step == 0 else None
        plan = self._plan(scorer, elements, cursor.step) if cursor.step < steps and not cursor.stopped else None
        started, tokens, flops, stopped, done = time.perf_counter(), 0, 0.0, cursor.stopped, cursor.step
        while done < steps and stopped is None:
            batch = batching.step_elements(elements, done, section.batch_prompts, self.seed)
            rate = section.learning_rate * learning_rate_factor(done, steps, section.warmup_fraction, section.schedule)
            stopped, means = self.update(module, optimiser, batch, objective, rate)
            tokens += int(means["tokens"])
            flops += self._flops(scorer, batch)
            done += stopped is None
            seconds = time.perf_counter() - started
            if validation and validation.due(done, last=done == steps or bool(stopped)):
                means |= self._validate(validation, done, scorer)
                started = time.perf_counter() - seconds  # the figures of speed are those of steps
            self.log.write(PHASE, done, steps, {**means, "learning_rate": rate, "seconds": round(seconds, 3)})
            due = section.save_every_steps and done % section.save_every_steps == 0
            if due or done == steps or stopped or cancellation.asked():
                self.save(Cursor(done, objective.state(), stopped), scorer, optimiser)
                cancellation.leave_if_asked()
        self._gather()
        seconds = time.perf_counter() - started
        best = restore_best(self.checkpoints, scorer, self.fingerprint) if validation else None
        return Fit(done, steps, tokens, seconds, stopped, flops, self._peak_flops(), plan, best)

    def _wrapped(self, scorer: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
        """What learns in the scorer's place, and its optimiser."""
        section = self.section
        devices = devices_of(section) if self.accelerator.num_processes > 1 else Devices(1)
        if devices.zero_stage:
            self.shards = zero = Zero(self.prepare(scorer), make_optimiser(scorer, section), section)
            return zero.module, cast(torch.optim.Optimizer, zero)
        if devices.sharded:
            self.shards = shard(self.prepare(scorer))
            return self.shards.module, make_optimiser(self.shards.module, section)
        module, optimiser = self.accelerator.prepare(scorer, make_optimiser(scorer, self.section))
        return module, optimiser

    def _gather(self) -> None:
        """Bring the scorer up to date where shards of it learn."""
        if self.shards:
            self.shards.gather()
        self.accelerator.wait_for_everyone()

    def _validate(self, validation: Validation, step: int, scorer: nn.Module) -> dict[str, float]:
        """Measure held-out prompts and keep the weights if they are the best so far."""
        self._gather()
        value = validation.measure()
        if self.is_main:
            keep_if_better(self.checkpoints, validation, Best(step, value), scorer, self.fingerprint)
        self.accelerator.wait_for_everyone()
        return {f"validation_{validation.name}": value}

    def _flops(self, scorer: nn.Module, elements: Sequence[Element]) -> float:
        """FLOPs of learning from elements once."""
        work = estimate.work_of(elements, self.layout, by_token=isinstance(scorer, PolicyScorer))
        return training_flops(estimate.shape_of(scorer), work)

    def _plan(self, scorer: nn.Module, elements: Sequence[Element], done: int) -> Plan:
        """What the steps behind `done` will cost, into the log; measures the speed on one micro-batch."""
        section, shape, layout = self.section, estimate.shape_of(scorer), self.layout
        steps = batching.steps_per_epoch(len(elements), section.batch_prompts)
        held = batching.step_elements(elements, 0, section.batch_prompts, self.seed)
        cuts = self._micro_batches(held, batching.by_length(held, layout))
        probe = [held[index] for index in cuts[len(cuts) // 2]]
        batch = token_batch(probe, layout).to(self.device)

        def compute() -> Any:
            with self.accelerator.autocast(), self._learning(scorer):
                return scorer(batch)

        speed = self._flops(scorer, probe) / estimate.pass_seconds(scorer, compute, self.device)
        padded, largest = estimate.epoch_work(elements, section, self.seed, layout, self.device.type)
        plan = Plan(
            parameters=shape.parameters,
            tokens_per_epoch=sum(element_tokens(element, layout) for element in elements),
            padded_tokens_per_epoch=padded,
            flops=self._flops(scorer, elements) * (section.epochs - done / steps),
            peak_bytes=peak_bytes(
                shape,
                largest,
                value_bytes=2 if section.dtype == "bfloat16" else FLOAT32_BYTES,
                chunk_logits=CHUNK_LOGITS,
                recomputed=section.gradient_checkpointing,
            ),
            flops_per_s=speed * self.accelerator.num_processes,
        )
        self.log.write(COST_PHASE, done, steps * section.epochs, plan.metrics())
        if self.is_main:
            logger.info("%s", sentence(plan.metrics()))
        return plan

    def _peak_flops(self) -> float | None:
        if self.device.type != "cuda":
            return None
        peak = peak_flops(torch.cuda.get_device_name(self.device), self.section.dtype)
        return peak * self.accelerator.num_processes if peak else None

    def map(self, scorer: nn.Module, elements: Sequence[Element], phase: str = "") -> Iterator[MappedBatch]:
        """This process's micro-batches of all elements with what the scorer says of each, without gradient.

        With a `phase`, progress in elements is logged under that name.
        """
        order = batching.share(
            batching.by_length(elements, self.layout), self.accelerator.process_index, self.accelerator.num_processes
        )
        done = 0
        for indices in self._micro_batches(elements, order):
            batch = token_batch([elements[index] for index in indices], self.layout).to(self.device)
            with torch.no_grad(), self.accelerator.autocast():
                output = scorer(batch)
            yield MappedBatch(indices, output)
            done += len(indices)
            if phase:
                self.log.write(phase, done * len(elements) // max(1, len(order)), len(elements))

    def score(
        self, scorer: nn.Module, elements: Sequence[Element], values: Callable[[Any], Tensor], phase: str = ""
    ) -> list[Tensor]:
        """A float32 value for each completion of each element, computed by all processes together.

        Args:
            scorer: as returned by `prepare`.
            elements: what to score.
            values: picks the values, (N,), out of the scorer's output.
            phase: name of the progress in the metrics, none if empty.

        Returns:
            For each element the values of its K completions, (K,), on the CPU.
        """
        counts = [len(element.completions) for element in elements]
        return self._mapped_values(scorer, elements, values, counts, phase)

    def score_tokens(
        self, scorer: nn.Module, elements: Sequence[Element], values: Callable[[Any], Tensor], phase: str = ""
    ) -> list[Tensor]:
        """Like `score`, with a value for each completion token: (tokens of all completions,) for each element."""
        counts = [sum(map(len, element.completions)) for element in elements]
        return self._mapped_values(scorer, elements, values, counts, phase)

    def _mapped_values(
        self,
        scorer: nn.Module,
        elements: Sequence[Element],
        values: Callable[[Any], Tensor],
        counts: Sequence[int],
        phase: str,
    ) -> list[Tensor]:
        """`counts` values of each element from all processes, put in the elements' order."""
        starts = [0, *itertools.accumulate(counts)]
        flat = torch.zeros(starts[-1], device=self.device)
        for indices, output in self.map(scorer, elements, phase):
            places = [place for index in indices for place in range(starts[index], starts[index + 1])]
            flat[torch.tensor(places, device=self.device)] = values(output).float()
        whole = self.accelerator.reduce(flat, "sum").cpu()
        return list(whole.split(list(counts)))

    def finish(self) -> None:
        """Remove the checkpoints of a task whose result is complete."""
        if self.is_main:
            remove_checkpoints(self.checkpoints)

    def update(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        elements: Sequence[Element],
        objective: Objective,
        rate: float,
    ) -> tuple[str | None, dict[str, float]]:
        """One optimiser step; returns why it was not taken, if so, and the step's metrics.

        Args:
            module: what is trained, as `accelerator.prepare` gave it; parameters of others in the optimiser stay.
            optimiser: its groups may carry `rate_factor`, which multiplies the rate.
            elements: the data of the step, in every process.
            objective: its loss is divided by the sum of the elements' weights, which must not be 0.
            rate: learning rate.

        Raises:
            TrainingError: the loss or the gradient is no number; the optimiser has not moved.
        """
        denominator = sum(objective.weight(element) for element in elements)
        totals = self._accumulate(module, elements, objective, denominator)
        limit, parameters = self.section.max_grad_norm, module.parameters()
        norm = self.shards.clip(limit) if self.shards else self.accelerator.clip_grad_norm_(parameters, limit)
        means = self._means(totals, denominator)
        means |= {"grad_norm": float(norm), "tokens": sum(element_tokens(e, self.layout) for e in elements)}
        if not (math.isfinite(means["loss"]) and math.isfinite(means["grad_norm"])):
            self._blame(module, elements, objective, means)
        stopped = objective.stop_reason(means)
        if stopped is None:
            for group in optimiser.param_groups:
                group["lr"] = rate * group.get("rate_factor", 1.0)
            optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return stopped, means

    def _accumulate(
        self, module: nn.Module, elements: Sequence[Element], objective: Objective, denominator: float
    ) -> list[Terms]:
        """Backward over this process's micro-batches; gradients end up as those of the whole step's mean."""
        processes = self.accelerator.num_processes
        cuts = self._cuts(elements)
        totals: list[Terms] = []
        for number, (indices, counts) in enumerate(cuts):
            last = number == len(cuts) - 1
            synchronised = contextlib.nullcontext() if last or self.shards else self.accelerator.no_sync(module)
            with synchronised, self._learning(module):
                terms = self._terms(module, [elements[index] for index in indices], objective)
                # Distributed training averages over processes; the factor makes a sum of it.
                loss = terms.loss_sum * (processes / denominator if counts else 0.0)
                self.shards.backward(loss, last=last) if self.shards else self.accelerator.backward(loss)
            if counts:
                totals.append(Terms(terms.loss_sum.detach(), terms.metrics))
        return totals

    def _cuts(self, elements: Sequence[Element]) -> list[tuple[list[int], bool]]:
        """This process's micro-batches and whether they count.

        Every process has to take part in the synchronisation, so an idle one computes an element with weight nought;
        where weights are sharded, as often as the busiest one computes.
        """
        order, processes = batching.by_length(elements, self.layout), self.accelerator.num_processes
        shares = [batching.share(order, rank, processes) for rank in range(processes)]
        mine = shares[self.accelerator.process_index]
        cuts = [(indices, bool(mine)) for indices in self._micro_batches(elements, mine or order[:1])]
        if not self.shards:
            return cuts
        return evened(cuts, max(len(self._micro_batches(elements, share or order[:1])) for share in shares))

    def _micro_batches(self, elements: Sequence[Element], order: Sequence[int]) -> list[list[int]]:
        budget, cut = self.section.tokens_per_micro_batch, batching.cut_for(self.device.type)
        return batching.micro_batches(elements, order, budget, self.layout, cut)

    def _terms(self, module: nn.Module, elements: Sequence[Element], objective: Objective) -> Terms:
        batch = token_batch(elements, self.layout).to(self.device)
        # accelerate has wrapped what it prepared; shards it has not seen.
        with self.accelerator.autocast() if self.shards else contextlib.nullcontext():
            return objective.terms(module, elements, batch)

    def _means(self, totals: Sequence[Terms], denominator: float) -> dict[str, float]:
        """Loss and metrics over all processes: one reduction and one transfer a step."""
        local: dict[str, tuple[Tensor | float, float]] = {"loss": (sum((t.loss_sum for t in totals), 0.0), denominator)}
        names = sorted({name for terms in totals for name in terms.metrics})
        for name in self._all_names(names):
            parts = [terms.metrics[name] for terms in totals if name in terms.metrics]
            local[name] = (sum((part.sum.detach() for part in parts), 0.0), float(sum(part.weight for part in parts)))
        sums = torch.stack([torch.as_tensor(value, device=self.device).float() for value, _ in local.values()])
        counts = torch.tensor([count for _, count in local.values()], device=self.device)
        sums, counts = self.accelerator.reduce(sums, "sum"), self.accelerator.reduce(counts, "sum")
        counts[0] = denominator
        return dict(zip(local, (sums / counts).tolist(), strict=True))

    def _all_names(self, names: list[str]) -> list[str]:
        """An idle process has no metrics of its own and must still join the reduction."""
        if self.accelerator.num_processes == 1:
            return names
        return sorted(set(gather_object(names)))

    def _blame(
        self, module: nn.Module, elements: Sequence[Element], objective: Objective, means: Mapping[str, float]
    ) -> None:
        """Name the prompts whose own loss is no number, or all when only the sum or the gradient is not."""
        inner = module if self.shards else self.accelerator.unwrap_model(module)
        with torch.no_grad():
            losses = [float(self._terms(inner, [element], objective).loss_sum) for element in elements]
        guilty = [e.prompt_id for e, loss in zip(elements, losses, strict=True) if not math.isfinite(loss)]
        named = guilty or [element.prompt_id for element in elements]
        raise TrainingError(
            f"the loss is {means['loss']} and the gradient's norm {means['grad_norm']} in the batch of prompts "
            f"{', '.join(named[:8])}{' …' if len(named) > 8 else ''}; the last good checkpoint is kept: look at these "
            "rows, lower learning_rate, or set dtype = 'float32'"
        )

    def save(self, cursor: Cursor, scorer: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write a checkpoint of the module, the optimiser and all generators."""
        self._gather()
        moments = optimiser_tensors(optimiser)
        if self.is_main:
            save_checkpoint(self.checkpoints, cursor, scorer, moments, self.fingerprint)
        self.accelerator.wait_for_everyone()


class MappedBatch(NamedTuple):
    """A micro-batch that was computed without gradient."""

    indices: list[int]
    """Which elements it held."""
    output: Any
    """What the scorer gave."""


def make_optimiser(module: nn.Module, section: OptimiserSection) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101); weight decay on matrices only, as is usual for norms and biases."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=section.learning_rate, fused=True)


def element_tokens(element: Element, layout: Layout) -> int:
    """Real tokens of an element in a layout, padding apart."""
    if layout != "padded":
        return footprint(element, layout).length
    return sum(len(element.prompt) + len(completion) for completion in element.completions)

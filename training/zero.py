"""ZeRO stages 1 and 2 (arXiv 1910.02054) by DeepSpeed: moments, from stage 2 gradients, exist once over all processes.

accelerate's wrapper steps inside its backward pass, where neither a broken loss nor a KL limit could stop it. The
engine of DeepSpeed itself has two halves: its backward pass reduces the gradients, the norm is asked for in between,
and the step is taken when everything allows it. Weights stay whole, in the model itself. Checkpoints hold whole
tensors under the names of AdamW's own, so a run may go on without DeepSpeed or with another number of processes.

Left out: stage 3 (`sharding` cuts weights), offload, and DeepSpeed's own checkpoints, which are pickles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ratify.sections import OptimiserSection
from training.devices import devices_of

_MOMENTS = ("exp_avg", "exp_avg_sq")
_BUCKET = 50_000_000
"""Numbers that are reduced at once; the default would set 2 GB aside."""


class Zero:
    """A model whose optimiser is spread over all processes; to the engine also that optimiser."""

    def __init__(self, whole: nn.Module, optimiser: torch.optim.Optimizer, section: OptimiserSection) -> None:
        import deepspeed

        # DeepSpeed puts one flat tensor into each group of the optimiser it is given.
        self.param_groups: list[dict[str, Any]] = [dict(group) for group in optimiser.param_groups]
        config = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": section.max_grad_norm,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {
                "stage": devices_of(section).zero_stage,
                "reduce_bucket_size": _BUCKET,
                "overlap_comm": False,
            },
        }
        made = deepspeed.initialize(model=whole, optimizer=optimiser, config=config, dist_init_required=False)
        self.module: nn.Module = made[0]
        self._engine, self._zero = made[0], made[1]
        for group in self._zero.param_groups:
            (flat,) = group["params"]
            zeros = {name: torch.zeros_like(flat) for name in _MOMENTS}
            self._zero.state[flat] = {"step": torch.zeros((), device=flat.device), **zeros}
        # DeepSpeed 0.19 links them in its first step, when only the first group has any.
        self._zero._lazy_init_hp_params_optimizer_state()

    def gather(self) -> None:
        """The model is whole at every time."""

    def scatter(self) -> None:
        """Take up the weights of the model, which a checkpoint may have changed."""
        self._zero.refresh_fp32_params()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add to the gradients, which are whole sums over processes after the last one; all processes call it."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss)

    def clip(self, _limit: float) -> float:
        """The norm of the gradients, no number where one of them is none; `step` clips, by the section's limit."""
        self._zero.check_overflow()
        return float("nan") if self._zero.overflow else float(self._zero.scaled_global_norm())

    def step(self) -> None:
        """Clip and update by the rates of `param_groups`."""
        for ours, theirs in zip(self.param_groups, self._zero.param_groups, strict=True):
            theirs["lr"] = ours["lr"]
        self._engine.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget gradients, also those of a step that was not taken."""
        self._zero.zero_grad(set_to_none=set_to_none)
        for group in self._zero.averaged_gradients:
            self._zero.averaged_gradients[group] = None

    def state_dict(self) -> dict[str, Any]:
        """As torch's AdamW gives it, with whole tensors; all processes must call this."""
        from deepspeed.utils import safe_get_full_optimizer_state

        state: dict[int, dict[str, Tensor]] = {}
        for ours, theirs in zip(self.param_groups, self._zero.param_groups, strict=True):
            step = self._zero.state[theirs["params"][0]]["step"]
            for parameter in ours["params"]:
                whole = {name: safe_get_full_optimizer_state(parameter, name) for name in _MOMENTS}
                state[len(state)] = {"step": step.clone(), **whole}
        return {"state": state, "param_groups": []}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up what `state_dict`, or AdamW's own, gave."""
        from deepspeed.utils import safe_set_full_optimizer_state

        index = 0
        for ours, theirs in zip(self.param_groups, self._zero.param_groups, strict=True):
            for parameter in ours["params"]:
                found = saved["state"][index]
                self._zero.state[theirs["params"][0]]["step"].copy_(found["step"])
                for name in _MOMENTS:
                    safe_set_full_optimizer_state(parameter, found[name].to(parameter.device), name)
                index += 1

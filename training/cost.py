"""What training costs, by formula: FLOPs, memory, minutes, and how much of a device's peak was reached. No torch.

A forward pass takes two FLOPs for each weight that a token meets (arXiv 2001.08361, section 2.1, C ≈ 6·N·D for
forward and backward together) and 4·A·T² for the attention of each layer over a row of T tokens with heads of A values
in all (arXiv 2204.02311, appendix B); backward takes twice as much. N leaves out the embedding, which is looked up, and
counts the head only where it is computed: at completion tokens, or at a completion's end. So it does with the last
layer's output projection and feed-forward where they are trimmed (`tree_attention`). Left out: the optimiser's own
arithmetic, norms and activation functions, recomputation (which makes a model no better used).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

BACKWARD = 2
"""FLOPs of a backward pass in forward passes."""
FLOAT32_BYTES = 4
COST_PHASE = "cost"
"""Phase of the line in metrics.jsonl that holds the plan."""


class Shape(NamedTuple):
    """What a model's size means for arithmetic and memory."""

    parameters: int
    trained: int
    """Of these, with gradient and optimiser state."""
    body: int
    """Weights that every token meets: all but the embedding and the head."""
    head: int
    """Weights of the head."""
    layers: int
    hidden: int
    attention: int
    """Query heads times their size."""
    key_value: int
    """Key heads times their size."""
    intermediate: int
    """Width of the feed-forward part."""


class Work(NamedTuple):
    """Real tokens of some rows; padding is no work that the model needs."""

    tokens: int
    squares: int
    """Pairs of tokens that attention computes: of a row its squared length, by branches the sum of their blocks."""
    scored: int
    """Places at which the head is computed."""
    trimmed: int = 0
    """Tokens for which the last layer's token-wise parts are left out, because nobody reads them."""

    def __add__(self, other: object) -> Work:
        """Of both together."""
        if not isinstance(other, Work):
            return NotImplemented
        return Work(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def forward_flops(shape: Shape, work: Work) -> float:
    """FLOPs of one forward pass, multiplication and addition apart."""
    return _weight_flops(shape, work) + 4.0 * shape.layers * shape.attention * work.squares


def training_flops(shape: Shape, work: Work) -> float:
    """FLOPs of a forward and a backward pass; frozen weights pass a gradient on and get none, half of backward."""
    frozen = 1 - shape.trained / shape.parameters
    return (1 + BACKWARD) * forward_flops(shape, work) - frozen * _weight_flops(shape, work)


def _weight_flops(shape: Shape, work: Work) -> float:
    tail = shape.hidden * (shape.attention + 3 * shape.intermediate)
    return 2.0 * (shape.body * work.tokens + shape.head * work.scored - tail * work.trimmed)


def peak_bytes(
    shape: Shape, tokens: int, *, value_bytes: int = FLOAT32_BYTES, chunk_logits: int = 0, recomputed: bool = False
) -> float:
    """Roughly the largest memory of tensors while training, in bytes; the libraries' own is not in it.

    Weights 4 bytes, their gradients 4, AdamW's two moments 8. A layer keeps 4·H + 3·A + 3·K + 4·I values of a token
    for its backward pass: its input, both norms and the residual sum; queries before and after rotation and the
    attention's output; keys twice and values; gate, activated gate, up and their product. Rough: norms in float32,
    masks and the allocator's slack come on top, and kernels may keep less.

    Args:
        shape: the model's.
        tokens: padded tokens of the largest micro-batch.
        value_bytes: bytes of an activation.
        chunk_logits: logits computed at once; three copies exist, in float32.
        recomputed: gradient checkpointing, which keeps each layer's input and one layer's values.
    """
    state = 4.0 * (shape.parameters - shape.trained) + 16.0 * shape.trained
    of_layer = 4 * shape.hidden + 3 * shape.attention + 3 * shape.key_value + 4 * shape.intermediate
    kept = shape.layers * shape.hidden + of_layer if recomputed else shape.layers * of_layer
    logits = min(tokens * shape.head / shape.hidden, chunk_logits)
    return state + float(tokens) * kept * value_bytes + 3 * FLOAT32_BYTES * logits


class Plan(NamedTuple):
    """What a training run is going to cost."""

    parameters: int
    tokens_per_epoch: int
    padded_tokens_per_epoch: int
    """As they are computed, padding included."""
    flops: float
    """Of all steps that are left."""
    peak_bytes: float
    flops_per_s: float
    """Measured on one micro-batch of the data, forward and backward, by all processes together."""

    @property
    def seconds(self) -> float:
        """At the measured speed; the optimiser, checkpoints and validation come on top."""
        return self.flops / self.flops_per_s

    def metrics(self) -> dict[str, float]:
        """Figures for the log and the result."""
        return {
            "cost/parameters": self.parameters,
            "cost/tokens_per_epoch": self.tokens_per_epoch,
            "cost/padded_tokens_per_epoch": self.padded_tokens_per_epoch,
            "cost/flops": self.flops,
            "cost/peak_bytes": round(self.peak_bytes),
            "cost/expected_seconds": round(self.seconds, 1),
        }


def sentence(values: Mapping[str, object]) -> str:
    """A plan's metrics for a person, before training starts."""
    found = {name: float(str(values[f"cost/{name}"])) for name in Plan._fields[:5] if f"cost/{name}" in values}
    tokens, padded = found["tokens_per_epoch"], found["padded_tokens_per_epoch"]
    seconds = float(str(values["cost/expected_seconds"]))
    return (
        f"{found['parameters'] / 1e6:,.1f} M parameters; {tokens:,.0f} tokens an epoch "
        f"({padded:,.0f} with padding); {found['flops']:.1e} FLOPs; about {found['peak_bytes'] / 2**30:,.2f} GiB "
        f"besides the libraries; about {_duration(seconds)} at the speed of a first micro-batch"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


PEAK_TFLOPS: dict[str, tuple[float, float]] = {
    "A100": (312, 19.5),
    "H100 PCIe": (756, 51),
    "H100 NVL": (835, 60),
    "H100": (989, 67),
    "H200": (989, 67),
    "L4": (121, 30.3),
    "L40S": (362, 91.6),
}
"""Dense bfloat16 and float32 (no TF32) TFLOP/s by NVIDIA's data sheets; a longer name goes before a shorter one."""


def peak_flops(device_name: str, dtype: str) -> float | None:
    """A device's peak FLOP/s by the name that torch gives it; None where it is not known."""
    words = f" {' '.join(re.split(r'[ -]+', device_name))} "
    for name, (bfloat16, float32) in PEAK_TFLOPS.items():
        if f" {name} " in words:
            return 1e12 * (bfloat16 if dtype == "bfloat16" else float32)
    return None


def achieved(flops: float, seconds: float, peak: float | None) -> dict[str, float]:
    """Speed reached, as GFLOP/s, and as a share of all devices' peak (model FLOP utilisation) where it is known."""
    if not flops or not seconds:
        return {}
    reached = flops / seconds
    share = {"train/flop_utilisation": round(reached / peak, 4)} if peak else {}
    return {"train/gflops_per_s": round(reached / 1e9, 3), **share}

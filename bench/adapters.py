"""Memory of PPO's four models: all weights of each, beside adapters on one frozen base.

    python -m bench.adapters [--quick] [--json PATH]

Makes a random Qwen2 with the demo's tokenizer and a reward model of it, and runs one rollout batch of the real task for
each side in a process of its own. Weights: bytes of the distinct tensors that policy, reference, critic and reward
model hold together. Peak: the process's largest resident memory less what it took to import the libraries, so it holds
weights, gradients, AdamW's moments and activations.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ratify.files import write_json, write_text
from ratify.lineage import ROOT

TOKENIZER = ROOT / "data" / "demo" / "policy"
SIDES = ("whole", "lora")


def make_models(folder: Path, *, quick: bool) -> None:
    """A policy, and a reward model with its adapter, as training leaves them."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from ratify.lora_section import LoraSection
    from training.adapters import adapted, save_trained, scalar_view
    from training.models import load_encoder, save_model

    sizes = {"hidden_size": 256, "num_hidden_layers": 2} if quick else {"hidden_size": 768, "num_hidden_layers": 8}
    config = Qwen2Config(
        **json.loads((TOKENIZER / "config.json").read_text())
        | {"layer_types": None, "num_attention_heads": 8, "num_key_value_heads": 2}
        | {**sizes, "intermediate_size": 2816}
    )
    torch.manual_seed(0)
    encoder = load_encoder(str(TOKENIZER))
    save_model(Qwen2ForCausalLM(config), str(TOKENIZER), encoder, folder / "policy")
    source, lora = str(folder / "policy"), LoraSection(rank=8)
    base = Qwen2ForCausalLM.from_pretrained(source, dtype=torch.float32)
    reward = adapted(scalar_view(base, source, encoder, 0), lora, "reward", 0)
    save_trained(reward, source, encoder, folder / "model", lora)


def memory_mib(name: str) -> float:
    """This process's memory as the kernel counts it; `getrusage` would count that of the process it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**10


def train(folder: Path, side: str) -> dict[str, float]:
    """One rollout batch of PPO in this process."""
    import torch

    from ratify.policy_gradient_section import PolicyGradientSection
    from training.models import load_encoder
    from training.policy_gradient import train_policy_gradient
    from training.roles import roles_for
    from training.spec import PolicyGradientTask

    if side == "lora":
        import peft  # noqa: F401
    torch.set_num_threads(1)
    libraries = memory_mib("VmRSS")
    lora = {"lora": {"rank": 8}} if side == "lora" else {}
    section = PolicyGradientSection(batch_prompts=2, completions_per_prompt=2, max_tokens=8, epochs_per_batch=1, **lora)
    write_text(folder / "prompts.jsonl", "".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(2)))
    spec = PolicyGradientTask(
        data=folder / "prompts.jsonl", out=folder / side, model=str(folder / "policy"), section=section,
        reward_model=str(folder / "model"),
    )  # fmt: skip
    train_policy_gradient(spec, "bench")
    peak = memory_mib("VmHWM") - libraries
    roles = roles_for(spec.model, load_encoder(spec.model), 0, section.lora)
    reward = str(folder / "model")
    models = [roles.policy, roles.reference, roles.critic(reward), roles.reward(reward)]
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in models for p in m.parameters()}
    trained = sum(p.numel() for m in models for p in m.parameters() if p.requires_grad and m is not roles.reference)
    return {"weight_mib": sum(held.values()) / 2**20, "trained": trained, "peak_mib": peak}


def measure(folder: Path, side: str) -> dict[str, Any]:
    """A side in a process of its own."""
    command = [sys.executable, "-m", "bench.adapters", "--side", side, "--folder", str(folder)]
    answer = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print both sides and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(train(chosen.folder, chosen.side)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder), quick=chosen.quick)
        found = {side: measure(Path(folder), side) for side in SIDES}
    print(f"{'':10}{'weights MiB':>14}{'peak MiB':>12}{'trained':>14}")
    for side, figures in found.items():
        row = f"{figures['weight_mib']:>14,.0f}{figures['peak_mib']:>12,.0f}{figures['trained']:>14,.0f}"
        print(f"{side:10}{row}")
    ratios = {name: found["whole"][name] / found["lora"][name] for name in ("weight_mib", "peak_mib")}
    print(f"{'ratio':10}{ratios['weight_mib']:>14.2f}{ratios['peak_mib']:>12.2f}")
    if chosen.json:
        write_json(chosen.json, {"sides": found, "ratios": ratios})


if __name__ == "__main__":
    main()

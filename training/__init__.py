"""Fine-tuning, reward models, preference optimisation and policy gradients on one engine, in a process of their own.

The heart is the *prefix tree*: one prompt with its K completions is one sequence with a block attention mask and
restarted positions, so a prompt is computed once however many completions and pairs it has (`tree`). Around it: the
mathematics as pure functions (`losses/`, `logprobs`), an engine over accelerate that makes loss and gradient
independent of micro-batches, padding and processes and resumes bit for bit (`engine`, `checkpoint`), and the tasks
(`supervised`, `reward_model`, `preference` with its `objectives`, `policy_gradient` on the `rollout_loop`, `scoring`).
Any of them can train `adapters` instead of all weights, and most can do so in shards (`sharding`).
`launch` starts a task in a child process and needs no torch; `child` is that process.

Letters at the end of a tensor's name say its shape: B rows of a batch, T padded row length, N completions of a batch,
M completion tokens of a batch, P preference pairs of a batch, H hidden width, V vocabulary.

Left out so far: FlexAttention. This file imports nothing on purpose.
"""

"""Looking at a run's folder and at the machine, and mending what can be proved to be safe: `ratify doctor`.

A check gives findings: one sentence each of what is so, and what to do. Left out: everything that a stage finds out by
itself when it starts (models, prompts, servers of the user).
"""

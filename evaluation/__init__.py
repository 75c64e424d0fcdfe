"""Evaluation: is the new policy better than the old one, by how much, and how sure are we?

Pure functions from labels, replies and log-probabilities to estimates with intervals (`win_rate`, `compliance`,
`agreement`, `diversity`, `length`, `divergence`, over `intervals`); `summary` puts them together into one
`report.EvaluationReport`; `html_report` and `terminal` show it. Nothing here calls a model, reads a run directory or
decides a promotion.
"""

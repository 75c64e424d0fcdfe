"""Judges apply a constitution's principles to completions; their verdicts add up to labels and preference data."""

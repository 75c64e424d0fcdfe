"""Candidates: the managed vLLM server or any OpenAI-compatible endpoint, and sampling completions from it."""

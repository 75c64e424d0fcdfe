"""Losses as pure functions: tensors in, one value per pair out; no configuration, no model, no averaging."""

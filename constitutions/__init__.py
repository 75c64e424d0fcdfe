"""Constitutions: the YAML files that people edit, and what reads, hashes and applies them. Imports `ratify` and
nothing else.
"""

"""The floor every room stands on: types, configuration, run store, verdict store, chat client, errors.

Nothing here imports torch, Prefect or another room, so that the command line starts fast and a stage can be read
alone.
"""

__version__ = "0.1.0"

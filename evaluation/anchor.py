"""The frozen anchor text: words by people that no training round ever sees, one document a line or paragraph."""

from __future__ import annotations

from pathlib import Path

from ratify.errors import InputError


def read_anchor(path: Path) -> list[str]:
    """The lines of an anchor file that are not blank.

    Raises:
        InputError: missing, empty or not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"anchor text {path} does not exist; give `evaluation.anchor` a text file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"anchor text {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"anchor text {path} cannot be read: {error.strerror}") from None
    found = [line for line in lines if line.strip()]
    if not found:
        raise InputError(f"anchor text {path} is empty; give it text written by people")
    return found

"""The one file that the page edits: read, watched and saved.

A save is whole or does not happen (temporary file, flush, rename), is refused when the text does not load or when the
file is no longer the one that the page read, and keeps the file's line ends and permissions.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import NamedTuple

from constitutions.load import parse_constitution, read_text
from ratify.errors import ConstitutionError
from ratify.files import replacing


class ChangedOnDisk(ConstitutionError):
    """Somebody else wrote the file since the page read it."""


class OnDisk(NamedTuple):
    """The file at one moment."""

    text: str
    """With `\\n` at the end of each line."""
    stamp: str
    """SHA-256 of its bytes."""
    crlf: bool


class EditedFile:
    """A constitution file; symbolic links are followed, so that a save does not replace them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._target = path.resolve()
        self._saving = threading.Lock()

    def read(self) -> OnDisk:
        """The file as it is now.

        Raises:
            ConstitutionError: there is no such file, or it is not text.
        """
        try:
            return on_disk(self._target.read_bytes())
        except (OSError, UnicodeDecodeError):
            read_text(self.path)
            raise

    def save(self, text: str, stamp: str) -> OnDisk:
        """Write a text over the version with a stamp.

        Raises:
            ChangedOnDisk: the file has another stamp now.
            ConstitutionError: the text does not load.
            StoreError: it cannot be written; the old file is whole.
        """
        parse_constitution(text, self.path)
        with self._saving:
            now = self.read()
            if now.stamp != stamp:
                raise ChangedOnDisk(
                    f"{self.path} has changed on disk since this page read it; nothing was saved: reload the page's "
                    "text from disk, or copy your changes first"
                )
            mode = self._target.stat().st_mode
            raw = (text.replace("\n", "\r\n") if now.crlf else text).encode()
            with replacing(self._target) as temporary:
                temporary.write_bytes(raw)
                temporary.chmod(mode & 0o7777)
            return on_disk(raw)


def on_disk(raw: bytes) -> OnDisk:
    """A file's bytes as text with its stamp: one reading, so that the two belong together."""
    text = raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return OnDisk(text, hashlib.sha256(raw).hexdigest(), crlf=b"\r\n" in raw)

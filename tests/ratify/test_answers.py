"""Bodies as JSON: read fast, and as forgivingly as the standard library reads them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratify.answers import CallFailed, decode
from ratify.types import Failure

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans())
def test_a_body_is_read_as_the_standard_library_reads_it(value: Any, ascii_only: bool) -> None:
    try:
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:  # half a surrogate pair is no UTF-8
        body = json.dumps(value).encode()
    assert decode(body) == json.loads(body)


def test_what_only_the_slower_reader_forgives_is_still_read() -> None:
    found = decode(b'{"logprob": NaN, "least": -Infinity}')
    assert math.isnan(found["logprob"]) and found["least"] == -math.inf
    assert decode(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("body", [b"", b"[1,]", b"\xff\xff\xff", b"<html>", b'{"a": ' * 3000, b"[" * 100_000])
def test_rubbish_is_a_typed_failure_that_keeps_what_came(body: bytes) -> None:
    with pytest.raises(CallFailed) as caught:
        decode(body)
    assert caught.value.failure is Failure.PARSE_ERROR and "not JSON" in caught.value.raw

"""The benchmark of the lexical family runs every step on real figures."""

from bench.evaluation import measure


def test_every_step_is_timed_and_finds_what_was_put_in() -> None:
    found = measure(400)
    assert len(found["seconds"]) == 11
    assert found["core_seconds"] == sum(found["seconds"].values())
    figures = found["figures"]
    assert figures["near duplicates"] == 8 / 400, "four copies of a template each make two near duplicates"
    assert figures["phrases"][0].text.startswith("i hope that this answer helps you")
    assert figures["order 1"]["distinct"] < figures["order 4"]["distinct"] <= 1

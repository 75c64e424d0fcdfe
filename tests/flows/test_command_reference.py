"""The page of commands is what the commands say of themselves."""

import re

from flows.cli import app
from flows.command_reference import PAGE, reference


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(app), "run `python -m flows.command_reference`"


def test_every_command_says_what_it_does_and_no_option_is_silent() -> None:
    sections = re.split(r"^### ", reference(app), flags=re.MULTILINE)[1:]
    assert len(sections) > 20
    for section in sections:
        prose = section.split("```")[2].split("| | |")[0].strip()
        assert prose, section
        assert not re.findall(r"^\| `[^`]+` \|  \|$", section, flags=re.MULTILINE), section

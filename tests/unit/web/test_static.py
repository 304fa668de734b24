"""What is told of the page by its files alone: nothing becomes markup, nothing is asked of another host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor import web

STATIC = Path(web.__file__).parent / "static"
FILES = sorted(path for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".html", ".svg"})
#: Ways by which a string becomes elements or a program.
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|eval\("
    r"|new Function"
)
ELSEWHERE = re.compile(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9-]+\.[a-z]")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(STATIC)))
def test_a_file_makes_no_markup_of_text_and_names_no_other_host(path):
    text = path.read_text(encoding="utf-8")
    assert not MARKUP.search(text)
    # What is only shown, as an example of an address, is no request.
    assert not ELSEWHERE.search(text.replace("https://radio.example/live.mp3", ""))


def test_every_module_that_is_imported_is_there():
    assert len(FILES) > 30
    for path in FILES:
        if path.suffix == ".js":
            for named in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8")):
                assert (path.parent / named).resolve() in FILES, (path, named)

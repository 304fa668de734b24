"""Files of the page, which a browser keeps, and asks after each time: those of another version never mix."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles


class Assets(StaticFiles):
    """A directory whose files are answered by 304 for as long as they are the same."""

    def file_response(self, *words: Any, **named: Any) -> Response:
        """The file, or word that the browser has it."""
        answer = super().file_response(*words, **named)
        answer.headers["Cache-Control"] = "no-cache"
        return answer

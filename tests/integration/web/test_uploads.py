"""Uploads over real sockets: what is too large is cut off early, whatever it says of itself; names lead nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from monitor.daemon.courtesy import Courtesy
from monitor.web.border import Border
from monitor.web.problem import add_handlers
from monitor.web.server import WebServer
from monitor.web.uploads import Spool, safe_name

MOST_BYTES = 1_000_000
HEAD = b'--x\r\nContent-Disposition: form-data; name="files[]"; filename="big.wav"\r\n\r\n'
REQUEST = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@dataclass
class Harbour:
    """A server that takes uploads, and says what it got."""

    port: int
    directory: Path
    client: httpx.AsyncClient

    def spooled(self) -> list[Path]:
        return list(self.directory.iterdir())

    async def status(self, content: bytes, **headers: str) -> int:
        return (await self.client.post("/upload", content=content, headers={**FORM, **headers})).status_code


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    spool = Spool(tmp_path / "spool", max_bytes=MOST_BYTES)
    spool.clear()
    app = FastAPI()
    add_handlers(app)
    app.add_middleware(Border, hosts=None, courtesy=Courtesy())

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, Any]:
        async with spool.received(request, file_fields=("files[]",)) as form:
            files = [(file.name, file.size_bytes, file.path.stat().st_size) for file in form.files]
            return {"files": files, "fields": form.fields}

    web = WebServer(app, host="127.0.0.1", port=0)
    serving = asyncio.create_task(web.run())
    port = web.address[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        yield Harbour(port, tmp_path / "spool", client)
    await web.stop(serving)


async def test_a_length_that_is_stated_is_refused_before_anything_is_read(harbour):
    reader, writer = await asyncio.open_connection("127.0.0.1", harbour.port)
    writer.write(f"{REQUEST}Content-Length: 5000000000\r\n\r\n".encode() + HEAD)
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 60)
    assert harbour.spooled() == []
    writer.close()


async def test_an_upload_without_end_and_without_length_is_cut_off(harbour):
    reader, writer = await asyncio.open_connection("127.0.0.1", harbour.port)
    writer.write(f"{REQUEST}Transfer-Encoding: chunked\r\n\r\n{len(HEAD):x}\r\n".encode() + HEAD + b"\r\n")
    sent, answer = 0, asyncio.create_task(reader.readline())
    with contextlib.suppress(ConnectionError):
        while not answer.done() and sent < 5_000_000_000:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await asyncio.wait_for(writer.drain(), 60)
            sent += 0x10000
            await asyncio.sleep(0)
    assert sent < 100_000_000
    with contextlib.suppress(ConnectionError):  # cut off before the answer was read
        assert b" 413 " in await asyncio.wait_for(answer, 60)
    writer.close()

    async with asyncio.timeout(60):
        while harbour.spooled():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_whoever_sends_a_little_too_much_reads_why_not(harbour):
    answer = await harbour.client.post("/upload", files={"files[]": ("x", bytes(2 * MOST_BYTES))})
    assert answer.status_code == 413 and "1000000 bytes" in answer.json()["detail"]
    assert (await harbour.client.post("/upload", files={"files[]": ("x", bytes(1000))})).status_code == 200


async def test_what_is_no_form_is_refused_and_leaves_nothing(harbour):
    assert await harbour.status(b"x", **{"Content-Type": "text/plain"}) == 415
    assert await harbour.status(b"x", **{"Content-Type": "multipart/form-data"}) == 415
    other = HEAD.replace(b"files[]", b"other")
    for body in (b"", b"nonsense", HEAD, HEAD + b"cut off", other + b"x\r\n--x--\r\n"):
        assert await harbour.status(body) == 422, body
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    for value in (b"\xff", b"\0", bytes(100_000)):
        assert await harbour.status(field + value + b"\r\n--x--\r\n") == 422
    assert await harbour.status(field + b"x\r\n" + field.join([b"x\r\n"] * 3) + HEAD + b"\r\n--x--\r\n") == 200
    assert harbour.spooled() == []


async def test_a_form_arrives_whole(harbour):
    body = os.urandom(300_000)
    answer = await harbour.client.post(
        "/upload", files=[("files[]", ("a.wav", body)), ("files[]", ("b.wav", b""))], data={"catalog": "ü"}
    )
    assert answer.json() == {"files": [["a.wav", 300_000, 300_000], ["b.wav", 0, 0]], "fields": {"catalog": "ü"}}
    assert harbour.spooled() == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("song.wav", "song.wav"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/passwd", "passwd"),
        ("..", "unnamed"),
        ("", "unnamed"),
        (".hidden.wav", "hidden.wav"),
        ("a\0b\nc.wav", "a_b_c.wav"),
        ("<img src=x>.wav", "_img src=x_.wav"),
        ("C:evil.wav", "C_evil.wav"),
        ("lone\ud800.wav", "lone_.wav"),
        ("e\u0301.wav", "\u00e9.wav"),
    ],
)
def test_a_name_is_its_last_part_without_what_has_a_meaning(given, name):
    assert safe_name(given) == name


def test_a_long_name_keeps_its_suffix_and_fits_a_file_system():
    name = safe_name("ü" * 1000 + ".flac")
    assert name.endswith(".flac") and len(name.encode()) <= 200

"""What all pages share: no barrier, both themes, a phone's width, the keyboard, tokens, a connection that breaks."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from .conftest import PATIENCE_S, PHONE, TOGETHER, keep

pytestmark = TOGETHER

PAGES = {
    "live": "#/live",
    "matches": "#/matches",
    "match": "#/matches/{match_id}",
    "references": "#/references",
    "reference": "#/references/default/piece-1",
    "search": "#/search",
    "streams": "#/streams",
    "stream": "#/streams/first",
    "health": "#/health",
}


async def routes(world):
    return {name: route.format(match_id=(await world.aired())["match_id"]) for name, route in PAGES.items()}


async def read_whole(page):
    """What is on its way has come."""
    await expect(page.locator("#connection")).to_contain_text("heard")
    await expect(page.locator("main h1")).to_be_visible()
    await expect(page.locator("main [aria-busy]")).to_have_count(0)
    await expect(page.locator("main .bone")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_no_page_has_a_serious_barrier(visit, world, theme):
    page = await visit.open("#/live", color_scheme=theme)
    for name, route in (await routes(world)).items():
        await page.goto(f"/{route}")
        await read_whole(page)
        violations = (await Axe().run(page)).response["violations"]
        serious = [one for one in violations if one["impact"] in {"serious", "critical"}]
        assert not serious, f"{name}: {[(one['id'], one['nodes'][0]['html']) for one in serious]}"
        if theme == "dark":
            await keep(page, f"{name}-dark")


async def test_every_page_fits_a_phone(visit, world):
    page = await visit.open("#/live", viewport=PHONE, has_touch=True)
    for name, route in (await routes(world)).items():
        await page.goto(f"/{route}")
        await read_whole(page)
        await keep(page, f"{name}-phone")
        wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{name} is {wider} px wider than the screen"
        await expect(page.get_by_role("navigation").get_by_role("link", name="Search")).to_be_in_viewport(ratio=1)


async def test_the_switch_overrules_the_systems_theme_and_is_remembered(visit):
    page = await visit.open("#/live", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    switch = page.get_by_role("button", name="Theme")
    await switch.click()
    await switch.click()
    dark = await page.evaluate(ground)
    assert dark != light
    await page.reload()
    await expect(switch).to_have_accessible_name("Theme: dark. Change to system")
    assert await page.evaluate(ground) == dark
    await switch.click()
    assert await page.evaluate(ground) == light


async def test_the_keyboard_alone_is_enough(visit):
    page = await visit.open("#/live")
    await read_whole(page)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await page.goto("/#/matches")
    await read_whole(page)
    await expect(page.locator("main")).to_be_focused()
    await page.keyboard.press("/")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    link = page.get_by_role("table", name="Matches").get_by_role("link").first
    await link.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("region", name="Plane of hits")).to_be_visible()
    await page.goto("/#/streams?add=1")
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Address")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_a_token_is_asked_for_where_one_is_needed_and_used_from_then_on(visit, world):
    made = await world.command.json("token", "add", "page", "--scope", "write")
    page = await visit.open("#/streams/away")
    try:

        async def is_needed():
            return (await world.daemon.post("/api/v1/streams/away/restart", timeout=PATIENCE_S)).status_code == 401

        await world.daemon.until(is_needed, timeout_s=PATIENCE_S)
        await page.get_by_role("button", name="Pause").click()
        dialog = page.get_by_role("dialog", name="This needs a token")
        await keep(page, "token")
        await dialog.get_by_label("Token").fill("not-the-token")
        await dialog.get_by_role("button", name="Use this token").click()
        await expect(dialog).to_contain_text("not known")
        await dialog.get_by_label("Token").fill(made["token"])
        await dialog.get_by_role("button", name="Use this token").click()
        await expect(page.locator("main .badge").first).to_have_text("Paused")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("main .badge").first).not_to_have_text("Paused")
    finally:
        await world.command.run("token", "revoke", "page")
    # Chromium reports the refusals by itself; while a stream is paused or resumed there is none for a moment.
    visit.faults[:] = [fault for fault in visit.faults if "status of 40" not in fault]


class Line:
    """A wire between browser and daemon that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_cut = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        self._writers -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()


async def test_events_come_again_after_the_connection_broke(visit, world):
    line = Line(world.command.port)
    async with await asyncio.start_server(line.carry, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        page = await visit.open("#/live", base_url=f"http://127.0.0.1:{port}")
        await read_whole(page)
        await page.evaluate("window.stays = true")
        line.cut()
        await expect(page.locator("#connection")).to_contain_text("No connection")
        await keep(page, "no-connection")
        away = page.locator(".card").filter(has_text="away")
        answer = await world.daemon.post("/api/v1/streams/away/pause", timeout=PATIENCE_S)
        assert answer.is_success, answer.text
        line.is_cut = False
        await expect(page.locator("#connection")).to_contain_text("heard")
        await expect(away).to_contain_text("Paused")
        await world.daemon.post("/api/v1/streams/away/resume", timeout=PATIENCE_S)
        await expect(away).not_to_contain_text("Paused")
        assert await page.evaluate("window.stays")
        await page.context.close()
        line.cut()
    # Chromium reports what it could not ask for while the wire was cut.
    visit.faults[:] = [fault for fault in visit.faults if "net::ERR_" not in fault]


async def test_events_are_read_however_they_are_cut(visit):
    page = await visit.open("#/health")
    told = await page.evaluate(
        """async () => {
          const { parser } = await import("/static/events.js");
          const text =
            ": ping\\n\\nid: 7\\nevent: match\\ndata: {\\"a\\":\\ndata: 1}\\n\\ndata: x\\r\\n\\r\\n" +
            "event: lost\\ndata: y\\n";
          const all = [];
          for (let cut = 1; cut < text.length; cut += 1) {
            const told = [];
            const feed = parser((event) => event.data.length && told.push(event));
            feed(text.slice(0, cut));
            feed(text.slice(cut));
            all.push(JSON.stringify(told));
          }
          return [...new Set(all)];
        }"""
    )
    assert told == ['[{"id":"7","type":"match","data":["{\\"a\\":","1}"]},{"id":null,"type":"message","data":["x"]}]']


async def test_times_are_written_as_people_read_them(visit):
    page = await visit.open("#/health")
    written = await page.evaluate(
        """async () => {
          const { length, span, tempo, level } = await import("/static/parts/format.js");
          return [length(0), length(59.6), length(3599.7), length(3723.4, 1), length(-2), length(59.96, 1),
            span(59), span(61), span(7260), span(90000), tempo(1), tempo(1.018), tempo(0.982),
            level(null), level(-17.6)];
        }"""
    )
    assert written == [
        "0:00", "1:00", "1:00:00", "1:02:03.4", "\u22120:02", "1:00.0",
        "59 s", "1 min", "2 h 1 min", "1 day", "as recorded", "+1.8 %", "\u22121.8 %", "no sound", "\u221218 dBFS",
    ]  # fmt: skip

"""Live: what plays now, as it begins and ends, without a reload."""

from __future__ import annotations

import re

from playwright.async_api import expect

from .conftest import MARKUP, PATIENCE_S, TOGETHER, keep, seconds

pytestmark = TOGETHER


def card(page, name):
    return page.locator(".card").filter(has=page.get_by_role("link", name=name, exact=True))


async def test_each_stream_has_a_card_with_state_level_and_what_plays(visit):
    page = await visit.open("#/live")
    first = card(page, "first")
    await expect(first).to_contain_text("Receiving")
    await expect(first.locator(".loud")).to_contain_text("dBFS")
    await expect(first.locator(".playing-title")).to_contain_text(MARKUP)
    await expect(first.locator(".playing-about")).to_contain_text("The Ferrymen")
    await expect(first.locator(".progress")).to_contain_text(re.compile(r"\d:\d\d"))
    await expect(card(page, "away")).to_contain_text("The server refuses connections")
    await expect(page.locator("#connection")).to_contain_text("2 of 3 streams heard")
    await expect(first.locator(".strip")).to_have_attribute("aria-label", re.compile(r"[1-9]\d* match"))
    await expect(card(page, "away").locator(".gap").first).to_be_attached()
    assert await page.title() == "Live · monitor"
    await keep(page, "live")


async def test_a_match_appears_and_goes_without_a_reload(visit, world):
    page = await visit.open("#/live")
    second = card(page, "second")
    await expect(second).to_contain_text("Nothing of the catalog")
    table = await visit.open("#/matches?stream=second")
    await expect(table.get_by_text("No match fits")).to_be_visible()
    await page.evaluate("window.stays = true")
    await table.evaluate("window.stays = true")
    world.air(seconds(world.pieces["piece-1"], 10, 24))
    await expect(second.locator(".playing-title")).to_contain_text("Second Winter")
    await expect(table.get_by_role("row").filter(has_text="Second Winter")).to_be_visible()
    await keep(page, "live-match")
    await expect(second).to_contain_text("Nothing of the catalog")
    await expect(table.get_by_role("row").filter(has_text="Second Winter")).to_contain_text("Ended")
    assert await page.evaluate("window.stays") and await table.evaluate("window.stays")


async def test_the_filter_leaves_what_is_wanted(visit):
    page = await visit.open("#/live")
    await expect(page.locator(".card:not([aria-hidden])")).to_have_count(3)
    await page.keyboard.press("/")
    await page.keyboard.type("sec")
    await expect(page.locator(".card:visible")).to_have_count(1)
    await page.get_by_role("searchbox").fill("")
    await page.get_by_role("button", name="Not heard").click()
    await expect(page.locator(".card:visible")).to_have_count(1)
    await expect(card(page, "away")).to_be_visible()
    await page.get_by_role("searchbox").fill("nothing is called so")
    await expect(page.get_by_text("No stream fits")).to_be_visible()


async def test_with_200_streams_only_what_changes_and_is_in_sight_is_touched(visit, world):
    page = await visit.open("about:blank")

    async def many(route):
        """The daemon's streams, and 200 more that it need not listen to."""
        answer = await route.fetch()
        said = await answer.json()
        model = next(stream for stream in said["streams"] if stream["name"] == "second")
        idle = {"playing": [], "state": "paused", "paused": True, "up": False, "level_dbfs": None}
        said["streams"] += [model | idle | {"name": f"idle-{number:03d}"} for number in range(200)]
        await route.fulfill(response=answer, json=said)

    await page.route("**/api/v1/streams", many)
    await page.goto("/#/live")
    await expect(page.locator(".card:not([aria-hidden])")).to_have_count(203)
    await keep(page, "live-200")
    await page.evaluate(
        """() => {
          window.touched = new Set();
          const seen = (changes) => changes.forEach(({target}) => {
            const element = target.nodeType === 1 ? target : target.parentElement;
            const card = element?.closest(".card");
            if (card) window.touched.add(card.dataset.name);
          });
          new MutationObserver(seen).observe(document.querySelector(".cards"), {
            subtree: true, childList: true, characterData: true, attributes: true,
          });
        }"""
    )
    answer = await world.daemon.post("/api/v1/streams/away/pause", timeout=PATIENCE_S)
    assert answer.is_success, answer.text
    await expect(card(page, "away")).to_contain_text("Paused")
    answer = await world.daemon.post("/api/v1/streams/away/resume", timeout=PATIENCE_S)
    await expect(card(page, "away")).to_contain_text("The server refuses connections")
    in_sight = await page.locator(".card").evaluate_all(
        "cards => cards.filter(card => card.getBoundingClientRect().top < innerHeight + 250).map(c => c.dataset.name)"
    )
    assert len(in_sight) < 50
    touched = set(await page.evaluate("[...window.touched]"))
    assert "away" in touched and "first" in touched
    # Streams that the daemon listens to change by themselves, in sight or not.
    assert {name for name in touched if name.startswith("idle")} <= set(in_sight)

"""Streams and health: tested, added, paused, removed; their past; the daemon's own state."""

from __future__ import annotations

import re

from playwright.async_api import expect

from .conftest import TOGETHER, keep

pytestmark = TOGETHER


def row(page, name):
    return (
        page.get_by_role("table", name="Streams")
        .get_by_role("row")
        .filter(has=page.get_by_role("link", name=name, exact=True))
    )


async def test_a_stream_is_tested_added_paused_and_removed(visit, world):
    address = world.command.config["streams"][1]["url"]
    page = await visit.open("#/streams")
    await expect(row(page, "away")).to_contain_text("Retrying")
    await page.get_by_role("button", name="Add a stream").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Address").fill("http://127.0.0.1:9/none.mp3")
    await dialog.get_by_role("button", name="Test").click()
    await expect(dialog.get_by_role("alert")).not_to_be_empty()
    await dialog.get_by_label("Address").fill(address)
    await dialog.get_by_role("button", name="Test").click()
    await expect(dialog.get_by_text("Reachable")).to_be_visible()
    await expect(dialog).to_contain_text("44.1 kHz")
    await keep(page, "stream-add")
    await dialog.get_by_label("Name", exact=True).fill("third")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(row(page, "third")).to_contain_text(re.compile("Receiving|Silent"))
    await row(page, "third").get_by_role("button", name="Pause").click()
    await expect(row(page, "third")).to_contain_text("Paused")
    await row(page, "third").get_by_role("button", name="Resume").click()
    await expect(row(page, "third")).to_contain_text(re.compile("Receiving|Silent"))
    await row(page, "third").get_by_role("button", name="Remove").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row(page, "third")).to_have_count(0)
    assert (await world.daemon.get("/api/v1/streams/third")).status_code == 404
    visit.faults[:] = [fault for fault in visit.faults if "status of 4" not in fault]


async def test_a_stream_shows_its_past_and_the_last_words_of_what_failed(visit):
    page = await visit.open("#/streams")
    await row(page, "away").get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("away")
    await expect(page.get_by_role("region", name="States")).to_contain_text("Retrying")
    await expect(page.get_by_role("region", name="Past").locator(".gap").first).to_be_visible()
    await expect(page.get_by_role("region", name="ffmpeg\u2019s last words")).to_be_visible()
    await keep(page, "stream-away")
    page = await visit.open("#/streams/first")
    await expect(page.get_by_role("region", name="Matches")).to_contain_text("bold")
    await page.get_by_role("button", name="7 days").click()
    await expect(page.get_by_role("region", name="Past").get_by_role("img")).to_have_attribute(
        "aria-label", re.compile("7 days")
    )
    await keep(page, "stream-first")


async def test_health_names_queues_catalogs_and_versions(visit, world):
    page = await visit.open("#/health")
    health = (await world.daemon.get("/api/v1/health")).json()
    await expect(page.get_by_text("The daemon does its whole job.")).to_be_visible()
    await expect(page.get_by_role("region", name="Queues").get_by_role("listitem")).to_have_count(len(health["queues"]))
    await expect(page.get_by_role("region", name="Catalogs")).to_contain_text("default")
    await expect(page.get_by_role("region", name="Versions")).to_contain_text(health["models"][0]["model_id"])
    await expect(page.get_by_role("region", name="Furthest behind live")).to_contain_text("first")
    await expect(page.get_by_role("region", name="Webhooks")).to_contain_text("No webhook yet")
    await keep(page, "health")

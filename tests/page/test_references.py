"""References: added by the dozen with every refusal explained, edited, heard, deleted."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from ..acceptance.conftest import write_wav
from .conftest import MARKUP, TOGETHER, keep, seconds

pytestmark = TOGETHER

ADDED = 17
REFUSED = {"broken-text.mp3": "Unreadable", "broken-short.wav": "Too short", "broken-silence.wav": "Silent"}


def table(page):
    return page.get_by_role("table", name="References")


def rows(page):
    return table(page).locator("tbody").get_by_role("row")


@pytest.fixture(scope="session")
def twenty(world, tmp_path_factory):
    """Seventeen recordings, and three files that are none."""
    folder = tmp_path_factory.mktemp("twenty")
    piece = world.pieces["piece-3"]
    for number in range(ADDED):
        write_wav(folder / f"take-{number:02d}.wav", seconds(piece, number * 1.5, number * 1.5 + 6))
    (folder / "broken-text.mp3").write_text("this is no sound " * 100)
    write_wav(folder / "broken-short.wav", seconds(piece, 10, 10.3))
    write_wav(folder / "broken-silence.wav", 0 * seconds(piece, 0, 8))
    return sorted(folder.iterdir())


async def test_of_twenty_files_three_are_refused_with_their_reasons_and_the_rest_is_found(visit, world, twenty):
    page = await visit.open("#/references")
    await expect(rows(page).filter(has_text="Paper Lanterns")).to_be_visible()
    await page.locator("input[type=file]").set_input_files(twenty)
    files = page.get_by_role("region", name="Files being added")
    await expect(files).to_contain_text("20 of 20 files done · 3 refused")
    await keep(page, "references-added")
    await files.get_by_role("button", name="Refused").click()
    await expect(files.locator(".file:visible")).to_have_count(len(REFUSED))
    for name, fate in REFUSED.items():
        file = files.locator(".file").filter(has_text=name)
        await expect(file.locator(".badge")).to_have_text(fate)
        await expect(file.locator(".reason")).not_to_be_empty()
    await expect(rows(page).filter(has_text="take-16")).to_be_visible()
    count = (await world.daemon.get("/api/v1/references/count")).json()["count"]
    await expect(page.locator("p.lead")).to_have_text(f"{count} recordings")
    await files.get_by_role("button", name="Clear").click()
    await expect(files).to_be_hidden()


async def test_one_and_several_are_deleted_after_asking(visit, world, twenty):
    page = await visit.open("#/references?q=take-1")
    await expect(rows(page)).to_have_count(7)
    row = rows(page).filter(has_text="take-10")
    await row.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(row).to_be_visible()
    await row.get_by_role("button", name="Delete").click()
    await keep(page, "references-delete")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(rows(page)).to_have_count(6)
    for name in ("take-11", "take-12"):
        await rows(page).filter(has_text=name).get_by_role("checkbox").check()
    await page.locator(".bulk").get_by_role("button", name="Delete").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(rows(page)).to_have_count(4)
    left = (await world.daemon.get("/api/v1/references?q=take-1")).json()["references"]
    assert {one["reference_id"] for one in left} == {f"take-{number}" for number in (13, 14, 15, 16)}
    await page.get_by_role("searchbox").fill("take-10")
    await expect(page.get_by_text("No reference fits")).to_be_visible()


async def test_what_is_said_of_a_reference_is_edited_and_nothing_of_it_becomes_markup(visit, world):
    page = await visit.open("#/references")
    await rows(page).filter(has_text="Long Way Down").get_by_role("link").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("The Long Way Down")
    await page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Title").fill(MARKUP)
    await dialog.get_by_label("Further fields").fill("mood: calm\nkey: D minor")
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    await expect(page.get_by_role("region", name="About")).to_contain_text("D minor")
    said = (await world.daemon.get("/api/v1/references/default/piece-3")).json()
    assert (said["title"], said["attributes"]) == (MARKUP, {"mood": "calm", "key": "D minor"})
    assert await page.evaluate("document.querySelectorAll('main img').length") == 0


async def test_a_reference_is_heard_and_says_where_it_was_aired(visit):
    page = await visit.open("#/references/default/piece-0")
    aired = page.get_by_role("region", name="Where it was aired")
    await expect(aired.get_by_role("row").filter(has_text="first").first).to_be_visible()
    await keep(page, "reference")
    await page.get_by_role("button", name=re.compile("^Play")).click()
    await page.wait_for_function("() => Number(document.querySelector('.player input').value) > 0.5")
    # Another player takes over: two at once are noise.
    await expect(page.locator(".player .said")).to_be_hidden()

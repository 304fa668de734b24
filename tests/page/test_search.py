"""Search: a clip from a file and from the microphone."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from ..acceptance.conftest import write_wav
from .conftest import TOGETHER, keep, seconds

pytestmark = TOGETHER


def results(page):
    return page.get_by_role("region", name="Results")


async def test_a_clip_is_found_with_its_position_and_its_reference_plays_from_there(visit, world, tmp_path):
    write_wav(tmp_path / "clip.wav", seconds(world.pieces["piece-1"], 14, 26))
    page = await visit.open("#/search")
    await page.locator("input[type=file]").set_input_files(tmp_path / "clip.wav")
    found = results(page).get_by_role("listitem").filter(has_text="Second Winter")
    await expect(found).to_be_visible()
    await keep(page, "search")
    seek = found.get_by_role("slider")
    assert float(await seek.input_value()) == pytest.approx(14, abs=2.5)
    await found.get_by_role("button", name="Play Second Winter").click()
    await expect(found.get_by_role("button", name="Pause Second Winter")).to_be_visible()
    await page.get_by_role("button", name="Play your clip").click()
    await expect(found.get_by_role("button", name="Play Second Winter")).to_be_visible()
    await page.get_by_role("button", name="Similar sound").click()
    await expect(results(page).get_by_role("listitem").first).to_contain_text("Second Winter")


async def test_what_the_microphone_hears_is_found(visit):
    page = await visit.open("#/search", permissions=["microphone"])
    await page.get_by_role("button", name="Record", exact=True).click()
    stop = page.get_by_role("button", name="Stop and search")
    await expect(page.locator(".recording")).to_contain_text(re.compile(r"0:(09|[1-5]\d)"))
    await stop.click()
    await expect(page.get_by_role("region", name="Your clip")).to_contain_text("recording.webm")
    await expect(results(page).get_by_role("listitem").first).to_contain_text("Paper Lanterns")
    await keep(page, "search-microphone")


async def test_a_clip_that_is_none_and_one_that_is_in_no_catalog_are_told_apart(visit, tmp_path):
    from monitor.demo.composer import compose

    page = await visit.open("#/search")
    (tmp_path / "notes.txt").write_text("no sound at all")
    await page.locator("input[type=file]").set_input_files(tmp_path / "notes.txt")
    await expect(results(page).get_by_text("This could not be read")).to_be_visible()
    write_wav(tmp_path / "stranger.wav", seconds(compose(99, 5).samples, 5, 17))
    await page.locator("input[type=file]").set_input_files(tmp_path / "stranger.wav")
    await expect(results(page).get_by_text("Not in the catalog")).to_be_visible()
    # Chromium reports the refusal of the first by itself.
    visit.faults[:] = [fault for fault in visit.faults if "status of 4" not in fault]

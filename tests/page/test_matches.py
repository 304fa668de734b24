"""Matches: found by typing, shown with the plane of their hits, heard from the matched second."""

from __future__ import annotations

import csv
import re

import pytest
from playwright.async_api import expect

from .conftest import MARKUP, TOGETHER, keep

pytestmark = TOGETHER


def rows(page):
    return page.get_by_role("table", name="Matches").locator("tbody").get_by_role("row")


async def test_the_table_filters_as_one_types_and_is_exported_as_shown(visit, tmp_path):
    page = await visit.open("#/matches")
    await expect(rows(page).filter(has_text=MARKUP).first).to_be_visible()
    await keep(page, "matches")
    find = page.get_by_role("searchbox")
    await find.press_sequentially("no such title")
    await expect(page.get_by_text("No match fits")).to_be_visible()
    await find.fill("piece-0")
    await expect(rows(page).first).to_contain_text(MARKUP)
    assert "q=piece-0" in page.url
    await page.get_by_label("Stream", exact=True).select_option("first")
    await page.get_by_label("Time", exact=True).select_option("24")
    await expect(rows(page).first).to_contain_text("first")
    async with page.expect_download() as started:
        await page.get_by_role("button", name="CSV").click()
    download = await started.value
    await download.save_as(tmp_path / download.suggested_filename)
    found = list(csv.DictReader((tmp_path / "matches.csv").read_text().splitlines()))
    assert found and {row["reference_id"] for row in found} == {"piece-0"}
    await page.reload()
    await expect(find).to_have_value("piece-0")
    await expect(page.get_by_label("Stream", exact=True)).to_have_value("first")


async def test_a_match_shows_its_plane_its_life_and_plays_its_reference_where_it_matched(visit, world):
    await world.aired()
    page = await visit.open("#/matches?stream=first")
    await rows(page).filter(has_text="first").last.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    assert await page.title() != "run"
    await expect(page.get_by_role("img", name="Plane of hits")).to_be_visible()
    hits = page.locator(".plane path.hits")
    await expect(hits).to_have_count(2)
    assert (await hits.first.get_attribute("d")).count("M") >= 5
    await expect(page.locator(".plane path.airing")).to_have_count(1)
    await expect(page.get_by_role("region", name="Life")).to_contain_text("Provisional")
    await expect(page.get_by_role("region", name="Airing")).to_contain_text("first")
    await keep(page, "match")
    seek = page.get_by_role("slider")
    # On a busy machine the oldest row may be another than the oldest that is certain.
    found = (await world.daemon.get(f"/api/v1/matches/{page.url.rpartition('/')[2]}")).json()
    assert float(await seek.input_value()) == pytest.approx(found["reference_start_s"], abs=0.01)
    await page.get_by_role("button", name=re.compile("^Play")).click()
    await expect(page.get_by_role("button", name=re.compile("^Pause"))).to_be_visible()
    await page.wait_for_function(
        "start => Number(document.querySelector('.player input').value) > start + 0.5", arg=found["reference_start_s"]
    )
    await expect(page.locator(".plane path.cursor")).to_have_attribute("d", re.compile("M"))
    await page.get_by_role("button", name=re.compile("^Pause")).click()
    await page.get_by_role("link", name="Matches").first.click()
    await expect(rows(page).first).to_be_visible()


async def test_a_match_that_is_not_there_says_so(visit):
    page = await visit.open("#/matches/00000000-0000-0000-0000-000000000000")
    await expect(page.get_by_text("This could not be read")).to_be_visible()
    # Chromium reports the daemon's 404 by itself.
    visit.faults[:] = [fault for fault in visit.faults if "404" not in fault]

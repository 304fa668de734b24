"""What the API reads."""

from __future__ import annotations

from uuid import uuid4


async def test_an_empty_daemon_answers_everything(site):
    assert await site.get("/streams") == {"streams": []}
    assert await site.get("/matches") == {"matches": [], "next": None}
    assert await site.get("/references") == {"references": [], "next": None}
    assert await site.get("/references/count") == {"count": 0}
    assert await site.get("/deliveries") == {"deliveries": [], "next": None}
    assert await site.get("/history") == {"streams": {}}
    health = await site.get("/health")
    assert health["ready"] and health["servers"]["postgres"]["version"].startswith("18")
    assert [model["name"] for model in health["models"]] == ["fingerprint"]
    assert {"windows_fingerprint", "embeddings_default"} <= {queue["name"] for queue in health["queues"]}
    await site.get(f"/matches/{uuid4()}", 404)
    await site.get("/streams/none", 404)
    await site.get("/references/default/none", 404)
    await site.get("/nothing", 404)
    await site.post("/matches", 405)
    await site.get("/matches", 422, params={"limit": 0})


async def test_the_page_is_kept_by_the_browser_and_asked_after_each_time(site):
    for path in ("/", "/static/page.js", "/static/parts/player.js", "/static/style/tokens.css", "/docs/swagger-ui.css"):
        first = await site.client.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache"), path
        again = await site.client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content, again.headers["cache-control"]) == (304, b"", "no-cache"), path
        other = await site.client.get(path, headers={"If-None-Match": '"of another version"'})
        assert other.content == first.content

import asyncio

import httpx
from servestatic import ServeStaticASGI


async def missing(scope, receive, send):
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_file_is_served_and_another_path_reaches_the_application(tmp_path):
    (tmp_path / "file.txt").write_text("contents", "utf-8")

    async def fetch():
        app = ServeStaticASGI(missing, root=tmp_path)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.get(path) for path in ("/file.txt", "/other")]

    found, other = asyncio.run(fetch())
    assert (found.text, other.status_code) == ("contents", 404)

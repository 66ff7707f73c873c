"""`workbench app`: pages and API on one port, and the key for both."""

import httpx
import pytest

from tests.serving.conftest import start
from workbench.serving.keys import new_key


@pytest.fixture(scope="module")
def app(home, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    key = new_key(path)
    process, url = start("--key-file", str(path), command="app")
    yield url, {"Authorization": f"Bearer {key}"}
    process.terminate()
    process.wait(60)


def test_pages_and_api_share_a_port_and_a_key(app):
    url, bearer = app
    for path in ("/", "/_stcore/host-config", "/v1/models", "/metrics"):
        assert httpx.get(url + path).status_code == 401, path
        assert httpx.get(url + path, headers=bearer, timeout=60).status_code == 200, path
    page = httpx.get(url, headers=bearer)
    assert (
        "<title>" in page.text and "form" not in httpx.get(f"{url}/login", headers=bearer).text[:50]
    )
    names = {
        m["id"] for m in httpx.get(f"{url}/v1/models", headers=bearer, timeout=60).json()["data"]
    }
    assert {"shelf-base", "shelf-tuned"} <= names and "shelf-reverse" not in names
    body = {"model": "shelf-base", "prompt": "Once upon a time", "max_tokens": 3, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", headers=bearer, json=body, timeout=120)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_the_key_opens_the_pages_in_a_browser(app):
    url, bearer = app
    key = bearer["Authorization"].removeprefix("Bearer ")
    with httpx.Client(base_url=url) as browser:
        assert "password" in browser.get("/").text
        assert browser.post("/login", data={"key": key}).status_code == 303
        assert browser.get("/").status_code == 200 and "password" not in browser.get("/").text

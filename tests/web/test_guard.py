"""Who may ask: whoever has the token, from the page itself; and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.web.desk import TOKEN, Desk, desk, shared

from calvaria.web.guard import FORGED, HEADERS, NO_TOKEN, WRONG_HOST, Guard


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture
def here(whole: Desk) -> Iterator[Desk]:
    with shared(whole) as found:
        yield found


def test_the_address_with_the_token_gives_a_cookie_and_an_address_without(here: Desk):
    answer = here.client.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert here.client.get("/").status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/page.js", "/api/cases", "/api/cases/x", "/api/cases/x/files", "/anything"])
def test_without_the_token_nothing_is_answered(here: Desk, path: str, method: str):
    del here.client.headers["Cookie"]
    answer = here.client.request(method, path)
    assert (answer.status_code, answer.text) == (401, NO_TOKEN)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "tökén"])
def test_a_wrong_token_opens_nothing(here: Desk, token: str):
    del here.client.headers["Cookie"]
    assert here.client.get("/", params={"token": token}).status_code == 401
    answer = here.client.get("/api/cases", headers={"Cookie": f"calvaria-{here.client.port}={token}".encode()})
    assert answer.status_code == 401


@pytest.mark.parametrize("host", ["evil.example:{}", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:{}", "x"])
def test_a_name_that_somebody_points_at_this_machine_is_refused(here: Desk, host: str):
    answer = here.client.get("/api/cases", headers={"Host": host.format(here.client.port)})
    assert (answer.status_code, answer.text) == (421, WRONG_HOST)


@pytest.mark.parametrize("host", ["localhost:{}", "[::1]:{}", "127.0.0.1:{}"])
def test_names_of_this_machine_are_taken(here: Desk, host: str):
    assert here.client.get("/api/cases", headers={"Host": host.format(here.client.port)}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{}", ""])
def test_requests_that_other_pages_send_change_nothing(here: Desk, origin: str):
    case = here.case()
    for method, path in (("POST", "/api/cases"), ("DELETE", f"/api/cases/{case}"), ("PUT", f"/api/cases/{case}/files")):
        answer = here.client.request(method, path, headers={"Origin": origin.format(here.client.port)})
        assert (answer.status_code, answer.text) == (403, FORGED)
    assert [one["id"] for one in here.client.get("/api/cases").json()] == [case]


def test_a_request_without_an_origin_changes_nothing(here: Desk):
    del here.client.headers["Origin"]
    assert here.client.post("/api/cases", json={}).status_code == 403


def test_another_page_cannot_read_either(here: Desk):
    for site in ("cross-site", "same-site"):
        assert here.client.get("/api/cases", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert here.client.get("/api/cases", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_form_of_another_page_cannot_pass_for_json(here: Desk):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = here.client.post("/api/cases", content=b"{}", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]) == (415, "JSON is wanted")


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/api/cases", "/api/cases/none", "/none", f"/?token={TOKEN}", "/?token=x"]
)
def test_every_answer_says_what_the_browser_may_do(here: Desk, path: str):
    answer = here.client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers.get_all(name) == [value]
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["server"] is None


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline(here: Desk):
    page = here.client.get("/").text
    assert "http:" not in page and "https:" not in page
    assert "<style" not in page and " style=" not in page and "onclick" not in page
    for script in ("page.js", "dom.js", "viewer.js", "slices.js", "design.js", "upload.js"):
        text = here.client.get(f"/{script}").text
        assert "http://" not in text and "https://" not in text and "innerHTML" not in text and "eval(" not in text


@pytest.mark.parametrize(
    ("name", "ours"), [("192.168.1.7:80", True), ("[fe80::1]:80", True), ("evil.example:80", False)]
)
def test_of_a_server_for_others_numbers_are_taken_and_strange_names_are_not(name: str, ours: bool):
    assert Guard(None, TOKEN, "0.0.0.0", 80).is_ours(name) == ours  # type: ignore[arg-type]
    assert not Guard(None, TOKEN, "127.0.0.1", 80).is_ours(name)  # type: ignore[arg-type]

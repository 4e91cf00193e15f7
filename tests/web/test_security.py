"""Who may ask, and what pages may do."""

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from rot180.errors import Rot180Error
from rot180.web.app import application
from rot180.web.security import host_of
from rot180.web.server import listen, serve_in_thread
from tests.web.atlases import ask

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with serve_in_thread(application()) as found:
        yield found


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    with serve_in_thread(application(hosts=("127.0.0.1", "lab.example"), token=TOKEN)) as found:
        yield found


WRONG_HOSTS = [
    "localhost/x",
    "evil@127.0.0.1",
    "127.0.0.1@evil",
    "localhost#",
    "localhost?",
    "localhost:",
    "localhost:80:80",
    "localhost:x",
    "local host",
    "localhost,evil",
    "[",
    "[broken",
    "::1",
    "localhost\xe9",
]


@pytest.mark.parametrize("host", WRONG_HOSTS)
def test_what_is_no_host_is_refused(plain: str, host: str) -> None:
    answer = ask(plain, "/learn", headers={"Host": host})
    assert answer.status in (400, 421)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil"])
def test_another_name_is_refused(plain: str, host: str) -> None:
    answer = ask(plain, "/learn", headers={"Host": host})
    assert answer.status in (400, 421)  # the first from the server's own parser
    assert b"rot180 explorer" not in answer.body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "[::1]:8180", "LOCALHOST"])
def test_names_of_this_machine_are_answered(plain: str, host: str) -> None:
    assert ask(plain, "/learn", headers={"Host": host}).status == 200


def test_hosts_are_read_from_headers() -> None:
    assert host_of("[::1]:80") == ("::1", 80)
    assert host_of("A.example:1") == ("a.example", 1)
    assert host_of("127.0.0.1") == ("127.0.0.1", None)
    for wrong in (*WRONG_HOSTS, ""):
        assert host_of(wrong) is None


def test_every_answer_says_what_a_page_may_do(plain: str) -> None:
    for path in ("/learn", "/nothing", "/static/x/style.css", "/openapi.json"):
        headers = ask(plain, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://evil@127.0.0.1"},
        {"Origin": "http://127.0.0.1/x"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "file://"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_change_nothing(plain: str, headers: dict[str, str]) -> None:
    answer = ask(plain, "/atlas/x/images", "POST", b"", headers)
    assert answer.status == 403
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8180", "http://localhost:8180"),
        ("localhost", "http://localhost"),
        ("localhost", "http://LOCALHOST:80"),
        ("localhost:443", "https://localhost"),
        ("[::1]:9", "http://[::1]:9"),
    ],
)
def test_pages_of_its_own_do(plain: str, host: str, origin: str) -> None:
    answer = ask(plain, "/atlas/x/images", "POST", b"", {"Host": host, "Origin": origin})
    assert answer.status == 404  # there is no such atlas


def test_without_the_token_nothing_is_answered(closed: str) -> None:
    for path in ("/", "/learn", "/static/x/style.css", "/openapi.json", "/learn?token=wrong"):
        assert ask(closed, path).status == 401
    assert ask(closed, "/learn", headers={"Authorization": "Bearer wrong"}).status == 401
    assert (
        ask(
            closed, "/learn", headers={"Cookie": f"rot180-token-{urlsplit(closed).port}=wrong"}
        ).status
        == 401
    )
    assert ask(closed, "/learn", headers={"Cookie": "broken;;;="}).status == 401
    assert ask(closed, f"/learn?token={TOKEN}", "POST").status == 401


def test_the_token_in_an_address_becomes_a_cookie(closed: str) -> None:
    answer = ask(closed, f"/learn?seed=3&token={TOKEN}")
    assert answer.status == 303
    assert answer.headers["location"] == "/learn?seed=3"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    shown = cookie.split(";")[0]
    assert ask(closed, "/learn", headers={"Cookie": shown}).status == 200
    assert ask(closed, "/learn", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_the_token_is_found_among_the_cookies_of_others(closed: str) -> None:
    port = urlsplit(closed).port
    mine = f"rot180-token-{port}={TOKEN}"
    for others in ('a={"x":1}; ', "b=c d; ", "=; ", 'q="; ', "rot180-token-1=other; ", "é=ü; "):
        headers = {"Cookie": f"{others}{mine}"}
        assert ask(closed, "/learn", headers=headers).status == 200
        assert ask(closed, "/learn", headers={"Cookie": f"{mine}; {others}"}).status == 200
    stale = f"rot180-token-{port}=stale; {mine}"
    assert ask(closed, "/learn", headers={"Cookie": stale}).status == 200
    for name in ("rot180-token", "rot180-token-1", f"x-rot180-token-{port}"):
        assert ask(closed, "/learn", headers={"Cookie": f"{name}={TOKEN}"}).status == 401


def test_the_token_does_not_lead_to_another_server(closed: str) -> None:
    answer = ask(closed, f"//evil.example/x?token={TOKEN}")
    assert answer.headers.get("location", "/").startswith("/")
    assert not answer.headers.get("location", "/").startswith("//")


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../templates.py",
        "/static/x/..%2Ftemplates.py",
        "/static/x/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../../../etc/passwd",
        "/static/x//etc/passwd",
        "/atlas/..%2f..%2fetc/passwd",
        "/atlas/x/images/..%2f..%2fetc%2fpasswd",
        "/learn/..%2F..%2Fpyproject.toml",
        "/%00",
    ],
)
def test_no_path_reaches_the_file_system(plain: str, path: str) -> None:
    answer = ask(plain, path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


def test_requests_that_are_no_http_do_not_stop_the_server(plain: str) -> None:
    import socket

    place = urlsplit(plain)
    for words in (b"\x00\xff\x16\x03", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000, b"POST / H"):
        with socket.create_connection((place.hostname, place.port), 10) as raw:
            try:
                raw.sendall(words)
                raw.shutdown(socket.SHUT_WR)
                raw.recv(100)
            except OSError:
                pass  # it hung up
    assert ask(plain, "/learn").status == 200


def test_other_methods_are_refused(plain: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(plain, "/learn", method).status in (403, 405)
    connection = http.client.HTTPConnection(urlsplit(plain).netloc, timeout=10)
    connection.request("HEAD", "/learn")
    assert connection.getresponse().status in (200, 405)
    connection.close()


def test_a_port_that_is_taken_is_a_sentence() -> None:
    taken = listen("127.0.0.1", 0)
    try:
        with pytest.raises(Rot180Error, match="Cannot listen at 127"):
            listen("127.0.0.1", taken.getsockname()[1])
    finally:
        taken.close()
    with pytest.raises(Rot180Error, match="Cannot listen at 203"):
        listen("203.0.113.7", 0)

"""From the log-in to a proxied route and out again, through every process; and the pages in a real browser."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.e2e.running import Demo, eventually


def log_in(demo: Demo, jar: Path) -> tuple[int, Any]:
    """As the demo's administrator; curl keeps the cookie in ``jar``."""
    body = json.dumps({"email": demo.facts["admin_email"], "password": demo.facts["admin_password"]})
    status, text = demo.curl(
        "/auth/login", "-c", str(jar), "-H", "Content-Type: application/json", "-d", body, key=None
    )
    return status, json.loads(text)


def test_a_session_opens_the_service_until_it_is_ended(demo: Demo, tmp_path: Path) -> None:
    """On every worker, within a second of the log-out (C-05); a program without one gets 401, a browser the log-in."""
    jar = tmp_path / "jar"
    status, said = log_in(demo, jar)
    assert status == 200, said
    assert demo.curl("/v1/models", "-b", str(jar), key=None)[0] == 200
    assert demo.curl("/v1/models", key=None)[0] == 401
    status, _ = demo.curl("/v1/models", "-H", "Accept: text/html", key=None)
    assert status == 302
    kept = tmp_path / "kept"
    shutil.copy(jar, kept)
    leave = ("-X", "POST", "-b", str(jar), "-H", "Sec-Fetch-Site: same-origin")
    assert demo.curl("/auth/logout", *leave, key=None)[0] == 204

    def is_out() -> bool:
        """On whichever workers answer."""
        return all(demo.curl("/v1/models", "-b", str(kept), key=None)[0] == 401 for _ in range(4))

    assert eventually(is_out, 3)


@pytest.fixture
def pages(demo: Demo) -> Iterator[Any]:
    """A browser that fails the test on any complaint of its own, such as a breach of the page's policy."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  slow

    complaints: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=programs.chromium(), args=["--no-sandbox"] if not os.geteuid() else []
        )
        context = chromium.new_context(base_url=demo.facts["url"])
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        chromium.close()
    assert not complaints


def test_the_account_in_a_browser(demo: Demo, pages: Any) -> None:
    """Log in, come back to where one was going, walk every page in both themes and two widths, log out."""
    pages.goto("/account/sessions")
    assert re.search(r"/auth/login\?next=", pages.url)
    pages.fill("#email", demo.facts["admin_email"])
    pages.fill("#password", demo.facts["admin_password"])
    pages.click("main button.primary")
    pages.wait_for_url(re.compile(r"^[^?]*/account/sessions$"))
    for scheme, width in (("light", 1_280), ("dark", 320)):
        pages.emulate_media(color_scheme=scheme)
        pages.set_viewport_size({"width": width, "height": 800})
        for path in ("", "/security", "/sessions", "/data", "/second-factor", "/email"):
            pages.goto(f"/account{path}")
            assert pages.url.endswith(f"/account{path}")
            assert pages.locator("h1").count() == 1
            # Nothing but a table in its own frame is wider than the window (WCAG 1.4.10).
            assert pages.evaluate("document.documentElement.scrollWidth") <= width, path
            unnamed = "[...document.querySelectorAll('input:not([type=hidden]):not([hidden]),select')]"
            assert pages.evaluate(f"{unnamed}.filter(one => !one.labels.length).length") == 0
    pages.goto("/account/security")
    pages.fill("#password", "short")
    pages.locator(".strength meter").wait_for(state="visible")
    pages.click("text=Sign out")
    pages.wait_for_url(re.compile(r"/auth/login(\?said=out)?$"))


def test_a_forgotten_password_ends_in_the_demos_letter_box(demo: Demo, tmp_path: Path) -> None:
    """Through gateway, portal and mailer; the link is the demo's own address, and no log line has its secret."""
    jar = tmp_path / "jar"
    _, page = demo.curl("/auth/forgot", "-c", str(jar), key=None)
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    sent = ("-b", str(jar), "--data-urlencode", f"csrf={token}", "-d", f"email={demo.facts['admin_email']}")
    assert demo.curl("/auth/forgot", *sent, key=None)[0] == 200
    (letter,) = eventually(lambda: list((demo.state / "mail").glob("*.eml")))
    link = re.search(r"http://\S+/auth/reset/(thk_reset_\S+)", letter.read_text())
    assert demo.curl(f"/auth/reset/{link[1]}", key=None)[0] == 200
    assert demo.curl(f"/auth/reset/{link[1]}x", key=None)[0] == 410
    assert eventually(lambda: any("/auth/reset/" in str(line["path"]) for line in demo.gateway.access))
    assert link[1] not in "\n".join(demo.gateway.lines)


def test_the_log_in_works_without_scripts(demo: Demo) -> None:
    """Curl is a browser without any: the form is whole, and what needs a script (passkeys) is hidden until one runs."""
    done = subprocess.run(
        ["curl", "-sS", demo.facts["url"] + "/auth/login"], capture_output=True, text=True, check=True, timeout=30
    )
    assert re.search(r"data-passkey=[^>]* hidden>", done.stdout)
    assert not re.search(r"<script(?![^>]* src=)", done.stdout)
    assert '<form method="post" action="/auth/login">' in done.stdout

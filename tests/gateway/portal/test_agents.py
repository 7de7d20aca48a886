"""Browsers are named in words; what is not known stays as it is."""

import pytest

from gateway.portal.entry.agents import browser_name

MOZILLA = "Mozilla/5.0 (%s) AppleWebKit/537.36 (KHTML, like Gecko) "


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (MOZILLA % "X11; Linux x86_64" + "Chrome/156.0.0.0 Safari/537.36", "Chrome 156 on Linux"),
        (MOZILLA % "Windows NT 10.0" + "Chrome/156.0.0.0 Safari/537.36 Edg/156.0.1.2", "Edge 156 on Windows"),
        (MOZILLA % "Linux; Android 16" + "Chrome/156.0.0.0 Mobile Safari/537.36", "Chrome 156 on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15.1; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox 140 on macOS"),
        (MOZILLA % "iPhone; CPU iPhone OS 19_0" + "Version/19.0 Mobile/15E Safari/604.1", "Safari 19 on iPhone"),
        ("curl/8.1.2", "curl 8"),
        ("", "unknown browser"),
        ("<script>", "<script>"),
        ("x" * 256, "x" * 60),
    ],
)
def test_a_browser_has_a_name(agent: str, name: str) -> None:
    assert browser_name(agent) == name

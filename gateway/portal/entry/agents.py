"""What a browser calls itself, in words for the person whose browser it is. A guess: it decides nothing."""

import re

_BROWSERS = (
    ("Edge", re.compile(r"Edg(?:e|A|iOS)?/(\d+)")),
    ("Opera", re.compile(r"OPR/(\d+)")),
    ("Samsung Internet", re.compile(r"SamsungBrowser/(\d+)")),
    ("Firefox", re.compile(r"(?:Firefox|FxiOS)/(\d+)")),
    ("Chrome", re.compile(r"(?:Headless)?(?:Chrome|CriOS)/(\d+)")),
    ("Safari", re.compile(r"Version/(\d+)[.\d]* .*Safari/")),
    ("curl", re.compile(r"^curl/(\d+)")),
)
"""Those that also call themselves another one come before it."""
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def browser_name(agent: str) -> str:
    """``Chrome 156 on Linux``; what is not known is shown as it is, cut short."""
    found = ((name, pattern.search(agent)) for name, pattern in _BROWSERS)
    name = next((f"{name} {match[1]}" for name, match in found if match), "")
    system = next((said for mark, said in _SYSTEMS if mark in agent), "")
    if not name:
        return agent[:60] or "unknown browser"
    return f"{name} on {system}" if system else name

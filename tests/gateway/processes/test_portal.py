"""How the portal's process steps back behind the data plane; that it has, on this kernel, is seen in ``test_crew``."""

from pathlib import Path

import pytest

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.processes import portal
from gateway.processes.portal import weigh
from gateway.processes.serving import Farewell


@pytest.mark.parametrize("place", ["nothing/here", "."])
def test_where_there_is_no_autogroup_nothing_changes(tmp_path: Path, place: str) -> None:
    """Other kernels, some containers; a directory stands for a file that cannot be written."""
    weigh(10, tmp_path / place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("refusals", "written"), [(0, ["10"]), (1, ["10"]), (9, [])])
def test_who_comes_too_soon_after_another_tries_again(
    monkeypatch: pytest.MonkeyPatch, refusals: int, written: list[str]
) -> None:
    """The kernel takes one change in 100 ms from all processes without privilege; the start does not hang on it."""
    answers = [BlockingIOError()] * refusals
    got, pauses = [], []

    def write(_: Path, text: str) -> int:
        if answers:
            raise answers.pop()
        got.append(text)
        return len(text)

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(portal.time, "sleep", pauses.append)
    weigh(10, Path("autogroup"))
    assert got == written
    assert pauses == [0.1] * min(refusals, 3)


async def test_at_its_end_it_weighs_what_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole gateway's stop waits for it: beside two busy sessions a core that was eight seconds for two."""
    said: list[int] = []
    monkeypatch.setattr(portal, "weigh", said.append)
    settings = load({"state_dir": tmp_path}, None, {})
    await portal.Session(Blueprint(settings, "", "", "s" * 40), []).drain(Farewell(within_s=1.0, idle_s=1.0))
    assert said == [0]

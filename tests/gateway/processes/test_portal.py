"""How the portal's process steps back behind the data plane; that it has, on this kernel, is seen in ``test_crew``."""

from pathlib import Path

import pytest

from gateway.processes import portal
from gateway.processes.portal import step_back


@pytest.mark.parametrize("place", ["nothing/here", "."])
def test_where_there_is_no_autogroup_nothing_changes(tmp_path: Path, place: str) -> None:
    """Other kernels, some containers; a directory stands for a file that cannot be written."""
    step_back(tmp_path / place)
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
    step_back(Path("autogroup"))
    assert got == written
    assert pauses == [0.1] * min(refusals, 3)

"""Limits through whole processes: set by a command, held across workers, and freed."""

import json
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.running import GATEWAY, environment, eventually, serving
from tests.e2e.test_serve import SlowUpstream, upstream  # noqa: F401  a fixture
from tests.policies.audio.build import wav


def _ask(url: str, key: str, body: bytes | None, codes: list[int]) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/wav"}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            codes.append(answer.status)
    except urllib.error.HTTPError as error:
        codes.append(error.code)


def test_places_and_audio_are_held_across_workers(tmp_path: Path, upstream: SlowUpstream) -> None:  # noqa: F811
    """Of twelve requests over two workers three are served, and their places come back; audio does not."""
    state = tmp_path / "state"

    def limits(*words: str) -> Any:
        done = subprocess.run(
            [*GATEWAY, "limits", *words, "--tenant", "a", "--json"],
            env=environment(state_dir=str(state)), capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        return json.loads(done.stdout)

    with serving(state, upstream, workers="2") as (_, url, key):
        limits("set", "--concurrency", "3", "--audio", "60s/month")
        codes: list[int] = []
        threads = [threading.Thread(target=_ask, args=(f"{url}/v1/models", key, None, codes)) for _ in range(12)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(codes) == 9)
        upstream.go.set()
        for thread in threads:
            thread.join(30)
        assert codes == [429] * 9 + [200] * 3
        uploads: list[int] = []
        for seconds in (59.9, 30.0):
            _ask(f"{url}/v1/listen", key, wav(seconds), uploads)
        assert uploads == [200, 429]
        used = {one["name"]: one["used"] for one in limits("show")["limits"]}
        assert used == {"tenant-audio-month": 59_900, "tenant-concurrency": 0}

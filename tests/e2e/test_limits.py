"""Limits through whole processes: set by a command, held across workers, and freed."""

import asyncio
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from datetime import UTC, datetime
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


_PARALLEL, _SECONDS = 500, 2.8


async def _upload(port: int, key: str, *, chunked: bool, everybody: asyncio.Barrier) -> int:
    """The status of one upload, which waits for all others to be connected. Half of it is sent before the rest."""
    body = wav(_SECONDS, rate=8_000)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
    if chunked:
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await everybody.wait()
        writer.write(
            f"POST /v1/listen HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {key}\r\nContent-Type: audio/wav\r\n"
            f"{framing}\r\n\r\n".encode()
        )
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
    finally:
        writer.close()


async def _all_at_one_time(port: int, key: str) -> Counter[int]:
    everybody = asyncio.Barrier(_PARALLEL)
    uploads = [_upload(port, key, chunked=number % 2 == 0, everybody=everybody) for number in range(_PARALLEL)]
    return Counter(await asyncio.gather(*uploads))


def test_places_and_audio_are_held_across_workers(tmp_path: Path, upstream: SlowUpstream) -> None:  # noqa: F811
    """Of twelve requests over four workers three are served, and their places come back; audio does not.

    And of hundreds of uploads at one time, half of them of unknown length, as many pass as fit: no more, and no fewer.
    """
    state = tmp_path / "state"

    def limits(*words: str) -> Any:
        done = subprocess.run(
            [*GATEWAY, "limits", *words, "--tenant", "a", "--json"],
            env=environment(state_dir=str(state)), capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        return json.loads(done.stdout)

    def used() -> dict[str, int]:
        return {one["name"]: one["used"] for one in limits("show")["limits"]}

    with serving(state, upstream, workers="4") as (_, url, key):
        far = "15" if abs(datetime.now(UTC).day - 15) > 1 else "1"  # no month ends while this runs
        limits("set", "--concurrency", "3", "--audio", "120s/month", "--anchor-day", far)
        codes: list[int] = []
        threads = [threading.Thread(target=_ask, args=(f"{url}/v1/models", key, None, codes)) for _ in range(12)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(codes) == 9)
        upstream.go.set()
        for thread in threads:
            thread.join(30)
        assert codes == [429] * 9 + [200] * 3
        assert eventually(lambda: used() == {"tenant-audio-month": 0, "tenant-concurrency": 0})
        limits("set", "--concurrency", "none")
        uploads: list[int] = []
        for seconds in (59.9, 90.0):
            _ask(f"{url}/v1/listen", key, wav(seconds), uploads)
        assert uploads == [200, 429]
        assert used() == {"tenant-audio-month": 59_900}
        codes_of_all = asyncio.run(_all_at_one_time(int(url.rpartition(":")[2]), key))
        assert codes_of_all == {200: 21, 429: _PARALLEL - 21}
        assert used() == {"tenant-audio-month": 59_900 + 21 * 2_800}

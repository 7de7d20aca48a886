"""Send a WAV file as live audio to a route in Deepgram's protocol, and print the words as they come.

    python live.py ws://127.0.0.1:9200/v1/listen clip.wav

asks for the key; it needs aiohttp and nothing else.
"""

import asyncio
import getpass
import json
import sys
import wave
from collections.abc import Iterable

import aiohttp

PIECE_S = 0.25


async def main(url: str, path: str, key: str) -> None:
    """Each piece is sent when it would have been spoken; every answer is a line."""
    with wave.open(path) as clip:
        rate, channels = clip.getframerate(), clip.getnchannels()
        pieces = iter(lambda: clip.readframes(int(rate * PIECE_S)), b"")
        query = f"?encoding=linear16&sample_rate={rate}&channels={channels}"
        headers = {"Authorization": f"Token {key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url + query, headers=headers) as stream,
            asyncio.TaskGroup() as both,
        ):
            both.create_task(send(stream, pieces))
            both.create_task(show(stream))


async def send(stream: aiohttp.ClientWebSocketResponse, pieces: Iterable[bytes]) -> None:
    """At the speed of speech, and then the word that nothing more comes."""
    for piece in pieces:
        await stream.send_bytes(piece)
        await asyncio.sleep(PIECE_S)
    await stream.send_json({"type": "CloseStream"})


async def show(stream: aiohttp.ClientWebSocketResponse) -> None:
    """What the service heard, as it changes its mind."""
    async for message in stream:
        said = json.loads(message.data)
        if said["type"] == "Results":
            print("final" if said["is_final"] else "so far", said["channel"]["alternatives"][0]["transcript"])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: live.py ws://HOST/v1/listen CLIP.wav")
    _, address, clip = sys.argv
    try:
        asyncio.run(main(address, clip, getpass.getpass("API key: ")))
    except aiohttp.WSServerHandshakeError as refused:
        sys.exit(f"Refused with {refused.status}: is the key right?")
    except (aiohttp.ClientError, OSError, wave.Error) as failed:
        sys.exit(f"Failed: {failed}")

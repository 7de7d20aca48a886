"""A recording that is all there: which format its sender says it has, and the way to its transcript."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from email.message import Message as Header

from gateway.demo import problems, wav
from gateway.demo.messages import Finished, Heard, Job, Message, Refused
from gateway.demo.pcm import Encoding, PcmFormat, Unreadable
from gateway.demo.transcript import Transcript, Utterance
from gateway.demo.uploads import Upload
from gateway.demo.workshop import RecogniserGone, Workshop

_TELEPHONE = 8_000

_RAW = {
    "audio/pcm": PcmFormat(),
    "audio/raw": PcmFormat(),
    "audio/x-raw": PcmFormat(),
    "audio/l16": PcmFormat(Encoding.S16_BIG_ENDIAN),  # in network byte order, RFC 2586 section 2
    "audio/pcmu": PcmFormat(Encoding.MULAW, _TELEPHONE),  # RFC 3551 section 4.5.14
    "audio/pcma": PcmFormat(Encoding.ALAW, _TELEPHONE),
    "audio/basic": PcmFormat(Encoding.MULAW, _TELEPHONE),  # RFC 2046 section 4.3
}
"""Content types that name raw samples; ``rate`` and ``channels`` may follow as parameters."""


def job_of(upload: Upload) -> Job:
    """How to read an upload, as its content type says. Raises Problem for impossible parameters."""
    header = Header()
    header["Content-Type"] = upload.content_type
    named = _RAW.get(header.get_content_type())
    if named is None or wav.is_wave(upload.audio):
        return Job()
    return Job(format=described(named, dict(header.get_params() or ())))


def described(form: PcmFormat, parameters: Mapping[str, str], rate: str = "rate") -> PcmFormat:
    """A format with the rate and channels that parameters give. Raises Problem."""
    try:
        return replace(
            form,
            rate=int(parameters.get(rate, form.rate)),
            channels=int(parameters.get("channels", form.channels)),
        )
    except Unreadable as refusal:
        raise problems.unreadable(str(refusal)) from refusal
    except ValueError as malformed:
        raise problems.invalid(f"{rate} and channels are whole numbers, such as {rate}=16000.", rate) from malformed


async def transcribed(workshop: Workshop, job: Job, audio: bytes) -> Transcript:
    """The whole transcript, when it is done. Raises Problem and RecogniserGone."""
    async with workshop.session(job) as session:
        session.give(audio)
        return await _gathered(session.messages())


async def _gathered(messages: AsyncIterator[Message]) -> Transcript:
    utterances = []
    async for message in messages:
        match message:
            case Heard(final=True, words=words) if words:
                utterances.append(Utterance(message.start_ms, message.end_ms, words))
            case Refused(reason):
                raise problems.unreadable(reason)
            case Finished(duration_ms):
                return Transcript(duration_ms, tuple(utterances))
            case _:
                pass
    raise RecogniserGone

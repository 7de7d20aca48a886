"""Which requests name their audio by URL, and which have the result sent elsewhere, in every place they may say it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.metering.elsewhere import Elsewhere
from policies.metering.meters import meter_for
from tests.policies.audio.build import wav
from tests.policies.audio.feeding import fed
from tests.policies.metering.test_multipart import TYPE, form, part

URL = "https://cdn.example/a.wav"
PAIRS = "application/x-www-form-urlencoded"


def told(query="", content_type="application/json", body=b"", lengths=(1 << 30,)):
    meter = fed(meter_for("raw", content_type, len(body), query), body, lengths)
    return meter.passes_by, meter._elsewhere.fetches, meter._elsewhere.returns


def as_json(**value):
    return json.dumps(value).encode()


SPEECHMATICS = {"type": "transcription", "fetch_data": {"url": URL}, "notification_config": [{"url": URL}]}
PASSES_BY = {
    "Deepgram": ("callback=https%3A%2F%2Fc.example", "application/json", as_json(url=URL)),
    "Deepgram, its name escaped": ("%63allback=wss%3A%2F%2Fc.example", "application/json", as_json(url=URL)),
    "behind a hundred others": ("&".join("x=1" for _ in range(100)) + "&callback=a", "", as_json(url=URL)),
    "Gladia": ("", "application/json", as_json(audio_url=URL, callback=True, callback_config={"url": URL})),
    "another order": ("", "application/json", as_json(callback_url=URL, audio_url=URL)),
    "escapes in a name": (
        "",
        "application/json",
        b'{"call\\u0062ack_url": "c", "u\\u0072l": "http://a"}',
    ),
    "a false type": ("callback=c", "audio/wav", as_json(url=URL)),
    "a long address": ("callback=c", "application/json", as_json(url=URL + "A" * 4000)),
    "pairs": ("", PAIRS, b"model=whisper-large-v3&%75rl=https%3A%2F%2Fa.example&callback_url=https%3A%2F%2Fb.example"),
    "a form": ("callback_url=x", TYPE, form(part("url", URL.encode()))),
    "a form, first a URL and then none": ("callback_url=x", TYPE, form(part("url", URL.encode()), part("url", b""))),
    "Speechmatics": ("", TYPE, form(part("config", json.dumps(SPEECHMATICS).encode()))),
    "Speechmatics, as a file": ("", TYPE, form(part("config", json.dumps(SPEECHMATICS).encode(), filename="c.json"))),
    **{
        f"in {code}": ("callback=c", "", as_json(url=URL).decode().encode(code))
        for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
    },
    "quotes in halves of characters": (
        "callback=c",
        "application/json",
        json.dumps({"x": "\u2222 \u5c22", "url": URL}, ensure_ascii=False).encode("utf-16-le"),
    ),
    "behind white space": ("callback=c", "application/json", b" \r\n\t" * 400 + as_json(url=URL)),
    "behind a space": ("callback=c", "application/json", as_json(url="\t https://a.example")),
    "with a slash too few": ("callback=c", "application/json", as_json(url="http:/a.example")),
    "a form behind white space": ("callback_url=x", TYPE, form(part("url", b" " * 2000 + URL.encode()))),
    "a form's JSON in UTF-16": ("", TYPE, form(part("config", json.dumps(SPEECHMATICS).encode("utf-16")))),
    "a part in UTF-16": ("callback_url=x", TYPE, form(part("url", URL.encode("utf-16")))),
    "names in UTF-7": (
        "",
        f"{TYPE}; charset=utf-7",
        form(part("+AHUAcgBs-", URL.encode()), part("+AGM-allback", b"c")),
    ),
    "names in EBCDIC, said otherwise": ("", f"{TYPE}; charset*=utf-8''cp037", form(part("a", b"b"))),
    "a name that parsers read differently": (
        "",
        TYPE,
        form(b'Content-Disposition: form-data; name="url"; name="model"\r\n\r\n' + URL.encode()),
    ),
    "ElevenLabs' webhook, which is a switch": (
        "",
        TYPE,
        form(part("cloud_storage_url", URL.encode()), part("webhook", b"true")),
    ),
    "a decoy beside it": (
        "callback=c",
        TYPE,
        form(part("url", URL.encode()), part("file", wav(0.1), filename="a.wav")),
    ),
}


@pytest.mark.parametrize("case", PASSES_BY)
@pytest.mark.parametrize("lengths", [(1 << 30,), (1,)])
def test_audio_by_url_whose_result_goes_elsewhere_is_seen_wherever_it_is_said(case, lengths):
    assert told(*PASSES_BY[case], lengths) == (True, True, True)


CONFIG = as_json(notification_config=[{"url": URL}])
SEEN = {
    "an upload": ("callback=c", "audio/wav", wav(0.1), False, True),
    "no callback": ("", "application/json", as_json(url=URL), True, False),
    "an empty one": ("callback=", "application/json", as_json(url=URL), True, False),
    "AssemblyAI's webhook, which brings no result": (
        "",
        "application/json",
        as_json(audio_url=URL, webhook_url=URL),
        True,
        False,
    ),
    "ElevenLabs' webhook, switched off": (
        "",
        TYPE,
        form(part("cloud_storage_url", URL.encode()), part("webhook", b"false")),
        True,
        False,
    ),
    "an upload in a form": ("", TYPE, form(part("config", CONFIG), part("data_file", wav(0.1))), False, True),
    "a charset that changes no name": ("callback=c", f"{TYPE};Charset=UTF-8", form(part("a", b"b")), False, True),
    "no place": ("callback=c", "application/json", as_json(prompt=f"see {URL}", url="none"), False, True),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_can_be_measured_or_asked_for_later_does_not_pass_by(case):
    query, content_type, body, fetches, returns = SEEN[case]
    assert told(query, content_type, body) == (False, fetches, returns)


def test_more_pairs_than_any_form_has_are_not_looked_at_and_believed_to_name_a_place():
    """Each costs something, and behind thousands of them there may be one."""
    assert told("callback=c", PAIRS, b"a&" * 50_000) == (True, True, True)


@given(path=st.lists(st.text()), value=st.text())
def test_nothing_raises(path, value):
    elsewhere = Elsewhere()
    elsewhere.note(path, value)
    assert elsewhere.passes_by == (elsewhere.fetches and elsewhere.returns)

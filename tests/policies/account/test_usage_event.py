"""A usage record as others get it."""

import json

from hypothesis import given

from policies.account.usage import UsageRecord
from policies.account.usage_event import usage_event
from tests.storage.usage_samples import ACME, STORABLE, record, records


def test_a_record_becomes_an_event_of_its_tenant() -> None:
    event = usage_event(record(event_id="evt_1", ended_ms=1_795_694_400_123, user_id="usr_1"), "https://gw.example")
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "https://gw.example",
        "type": "audio.transcribed",
        "subject": ACME,
        "tenantid": ACME,
        "time": "2026-11-26T12:00:00.123000Z",
        "datacontenttype": "application/json",
    }
    assert (
        data.items()
        >= {
            "audio_ms": 2_500,
            "duration_source": "walked",
            "model": "whisper-1",
            "key_id": "key_1",
            "user_id": "usr_1",
            "route": "openai.transcriptions",
            "status": 200,
            "outcome": "ok",
        }.items()
    )


@given(records(texts=STORABLE))
def test_every_record_is_json(given_record: UsageRecord) -> None:
    event = usage_event(given_record, "s")
    assert json.loads(json.dumps(event)) == event

"""Webhooks to a real receiver that fails half of the time."""

import base64
import hashlib
import hmac
import itertools
import time
from collections.abc import Callable

import pytest

from memae.live.sinks import Outbox, RejectedError, SinkError
from memae.live.sinks.webhook import WebhookSettings, WebhookSink, signature
from tests.live.sinks.receiver import Received, receiver
from tests.live.sinks.small_messages import event

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


def sink_to(port: int, **more: object) -> WebhookSink:
    return WebhookSink(
        WebhookSettings.of({"url": f"http://127.0.0.1:{port}/hook?key=hunter22", **more}, "sink webhook")
    )


def keeping(seen: list[Received]) -> Callable[[Received], tuple[int, object]]:
    def answer(one: Received) -> tuple[int, object]:
        seen.append(one)
        return 200, {}

    return answer


def test_the_signature_is_that_of_the_published_example() -> None:
    # of the reference libraries of standard-webhooks
    found = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_fails_half_of_the_time_gets_each_event_signed_and_in_order() -> None:
    attempts: list[Received] = []
    fails = itertools.cycle([500, 200, 503, 200])

    def answer(received: Received) -> tuple[int, object]:
        attempts.append(received)
        return next(fails), {}

    with receiver(answer) as port:
        outbox = Outbox(sink_to(port, secret=SECRET), first_wait_s=0.002, longest_wait_s=0.01)
        for number in range(10):
            outbox.put(event("new", f"{number}"))
            outbox.put(event("end", f"{number}"))
        outbox.close(10)
    assert (outbox.facts.sent, outbox.facts.failures, outbox.facts.lost) == (20, 20, 0)
    taken = attempts[1::2]
    assert [(one.json["type"], one.json["data"]["id"]) for one in taken] == [
        (kind, f"{number}") for number in range(10) for kind in ("event.new", "event.end")
    ]
    names = [one.headers["webhook-id"] for one in attempts]
    assert names[::2] == names[1::2]  # an attempt has the name of the one before
    assert len(set(names)) == 20
    for one in attempts:
        assert abs(int(one.headers["webhook-timestamp"]) - time.time()) < 5
        content = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
        digest = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
        assert one.headers["webhook-signature"] == f"v1,{digest}"
        assert "." not in one.headers["webhook-id"]


def test_updates_are_sent_only_where_they_are_wanted() -> None:
    seen: list[Received] = []
    with receiver(keeping(seen)) as port:
        for types in ({}, {"types": ["update"]}):
            sink = sink_to(port, **types)
            for kind in ("new", "update", "end"):
                sink.send(event(kind))
    assert [one.json["type"] for one in seen] == ["event.new", "event.end", "event.update"]


@pytest.mark.parametrize(("status", "kind"), [(400, RejectedError), (410, RejectedError), (301, SinkError)])
def test_final_answers_reject_and_redirects_are_not_followed(status: int, kind: type[Exception]) -> None:
    with receiver(lambda one: (status, {})) as port, pytest.raises(SinkError) as error:
        sink_to(port).send(event("new"))
    assert type(error.value) is kind
    assert f"answers {status}" in str(error.value)


def test_a_receiver_that_is_away_shows_no_credentials() -> None:
    with receiver(lambda one: (200, {})) as port:
        pass
    settings = WebhookSettings.of({"url": f"http://me:hunter22@127.0.0.1:{port}/hunter23?t=hunter24"}, "sink")
    with pytest.raises(SinkError, match=r"127\.0\.0\.1 does not answer") as error:
        WebhookSink(settings).send(event("new"))
    assert "hunter" not in f"{error.value!r}{settings!r}"


def test_name_and_password_of_the_address_become_a_header() -> None:
    seen: list[Received] = []
    with receiver(keeping(seen)) as port:
        settings = WebhookSettings.of({"url": f"http://me:p%40ss@127.0.0.1:{port}/"}, "sink")
        WebhookSink(settings).send(event("new"))
    assert base64.b64decode(seen[0].headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"

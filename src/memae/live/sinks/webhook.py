"""Events as signed requests to an address: Standard Webhooks 1.0.0."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from memae.live.message import EventMessage, Message
from memae.live.sinks.http import request
from memae.live.sinks.settings import HttpAddress, Secret, SinkSettings
from memae.live.sinks.sink import RejectedError, SinkError

__all__ = ["WebhookSettings", "WebhookSink", "signature"]

# statuses that say that this very message will never be taken; all others may be over later
NEVER = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.GONE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


def _key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        length = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except binascii.Error:
        length = 0
    if not text.startswith("whsec_") or not 24 <= length <= 64:
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 random bytes")
    return secret


class WebhookSettings(SinkSettings):
    """Where events are sent, and the key that signs them."""

    url: HttpAddress = Field(description="of the receiver; also env:NAME or file:PATH")
    secret: Annotated[Secret, AfterValidator(_key)] | None = Field(
        None, description="that signs: whsec_ and base64, or env:NAME or file:PATH; unset: no signature"
    )
    types: tuple[Literal["new", "update", "end"], ...] = Field(
        ("new", "end"), description="of messages that are sent"
    )
    timeout_s: float = Field(15.0, gt=0, description="for each step of a request")


class WebhookSink:
    """Posts each message of an event: {"type": "event.new", "timestamp": ..., "data": ...}.

    All attempts of a message have the same `webhook-id`, by which a receiver tells what it already has. Any answer but
    2xx is a failure. Answers 400, 410, 413 and 422 are final, and others are tried again.
    """

    settings = WebhookSettings
    wants: tuple[type, ...] = (EventMessage,)

    def __init__(self, settings: WebhookSettings) -> None:
        self.name = settings.name or "webhook"
        self._settings = settings

    def send(self, message: Message) -> None:
        """Posts one message, if it is of a type that is wanted."""
        assert isinstance(message, EventMessage)
        if message.type not in self._settings.types:
            return
        at = datetime.fromtimestamp(message.updated_at, UTC).isoformat(timespec="milliseconds")
        body = json.dumps(
            {"type": f"event.{message.type}", "timestamp": at.replace("+00:00", "Z"), "data": message.as_dict()},
            separators=(",", ":"),
        ).encode()
        name, now = f"{message.id}-{message.type}-{round(message.updated_at * 1000)}", round(time.time())
        headers = {"webhook-id": name, "webhook-timestamp": str(now), "User-Agent": "memae"}
        if secret := self._settings.secret:
            headers["webhook-signature"] = signature(secret.get_secret_value(), name, now, body)
        address, timeout_s = self._settings.url.get_secret_value(), self._settings.timeout_s
        answer = request("POST", address, body, headers, name=self.name, timeout_s=timeout_s)
        if answer.status // 100 != 2:
            kind = RejectedError if answer.status in NEVER else SinkError
            raise kind(f"{self.name}: the receiver answers {answer.status}; check its address and its log")

    def close(self) -> None:
        """Nothing is open between two requests."""


def signature(secret: str, name: str, at: int, body: bytes) -> str:
    """The header `webhook-signature`: "v1," and the base64 of HMAC-SHA256 of "name.at.body".

    Args:
        secret: "whsec_" and base64.
        name: `webhook-id`.
        at: `webhook-timestamp`, in Unix seconds.
        body: as sent.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"

"""Events, states and pictures over MQTT, and commands back; Home Assistant finds each camera by itself."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from memae.errors import MemaeError, MissingExtraError
from memae.live.controls import Controls
from memae.live.message import EventMessage, Message, ScoreMessage, StatusMessage
from memae.live.sinks.home_assistant import Topics, device, plain_name
from memae.live.sinks.settings import Secret, SinkSettings
from memae.live.sinks.sink import SinkError

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo

__all__ = ["MqttSettings", "MqttSink"]

log = logging.getLogger("memae")

CONNECT_S = 2.0  # that a message waits for the broker before it goes back to its outbox
LONGEST_WAIT_S = 30  # between two attempts to connect
LEVEL = r"^[^+#/\x00\s]+$"


class MqttSettings(SinkSettings):
    """Where the broker is, and how topics begin."""

    host: str = Field(min_length=1, description="of the broker")
    port: int = Field(1883, ge=1, le=65535, description="8883 is usual with tls")
    username: str | None = Field(None, description="of the broker; unset: no login")
    password: Secret | None = Field(None, description="as text, env:NAME or file:PATH")
    tls: bool = Field(False, description="encrypts, and checks the certificate of the broker")
    ca_file: Path | None = Field(None, description="of certificates to trust; unset: those of the system")
    client_id: str = Field("memae", min_length=1, max_length=23, description="each client of a broker has another")
    prefix: str = Field("memae", pattern=LEVEL, description="first level of all topics")
    discovery: bool = Field(True, description="tells Home Assistant of each camera")
    discovery_prefix: str = Field("homeassistant", pattern=LEVEL, description="as set in Home Assistant")
    score_every_s: float = Field(1.0, ge=0, description="between two scores of a camera")
    timeout_s: float = Field(10.0, gt=0, description="for the broker to acknowledge a message")


class MqttSink:
    """Publishes with quality of service 1; what is a state is retained.

    - `memae/events`: each message of an event as JSON.
    - `memae/<camera>/anomaly` and `enabled` (ON or OFF), `score`, `threshold`, `status` as JSON, `snapshot` as a
      picture; retained.
    - `memae/status`: online or offline, which is the last will, too; retained.
    - `memae/<camera>/enabled/set` and `threshold/set` are commands.

    After the broker was away, all states are published again, as it may have lost them.
    """

    settings = MqttSettings
    wants: tuple[type, ...] = (EventMessage, StatusMessage, ScoreMessage)

    def __init__(self, settings: MqttSettings) -> None:
        self.name = settings.name or "mqtt"
        self._settings = settings
        self._states: dict[str, bytes] = {}
        self._sources: dict[str, str] = {}
        """Names of cameras by their level in topics."""
        self._scored_at: dict[str, float] = {}
        self._controls: Controls | None = None
        self._pending: tuple[Message, list[MQTTMessageInfo]] | None = None
        self._connected = threading.Event()
        self._lock = threading.Lock()
        self._why = "it does not answer"
        self._client = self._made()

    def follow(self, controls: Controls) -> None:
        """Lets switch and threshold of Home Assistant act on a watch."""
        self._controls = controls

    def send(self, message: Message) -> None:
        """Publishes one message, and waits until the broker has it."""
        if not self._connected.wait(CONNECT_S):
            raise SinkError(f"{self.name}: no connection to the broker {self._settings.host} ({self._why})")
        if self._pending is None or self._pending[0] is not message:  # else the client itself sends it again
            self._pending = message, self._published(message)
        end = time.monotonic() + self._settings.timeout_s
        for info in self._pending[1]:
            try:
                info.wait_for_publish(max(0.01, end - time.monotonic()))
            except (RuntimeError, ValueError):
                self._pending = None
                raise SinkError(f"{self.name}: the connection to the broker was lost") from None
            if not info.is_published():
                raise SinkError(f"{self.name}: the broker acknowledges nothing")
        self._pending = None

    def close(self) -> None:
        """Says that the watch has ended, and leaves the broker."""
        if self._connected.is_set():
            info = self._client.publish(f"{self._settings.prefix}/status", b"offline", qos=1, retain=True)
            try:
                info.wait_for_publish(1.0)
            except (RuntimeError, ValueError):
                log.debug("sink %s: the broker has gone before the end", self.name)
        self._client.disconnect()
        self._client.loop_stop()

    def _made(self) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise MissingExtraError("The sink for MQTT", "live") from None
        own = self._settings
        client = Client(CallbackAPIVersion.VERSION2, client_id=own.client_id)
        if own.username is not None:
            client.username_pw_set(own.username, own.password.get_secret_value() if own.password else None)
        if own.tls:
            client.tls_set(ca_certs=str(own.ca_file) if own.ca_file else None)
        client.will_set(f"{own.prefix}/status", b"offline", qos=1, retain=True)
        client.reconnect_delay_set(1, LONGEST_WAIT_S)
        client.on_connect, client.on_disconnect, client.on_message = (
            self._on_connect,
            self._on_disconnect,
            self._on_message,
        )
        client.connect_async(own.host, own.port, keepalive=30)
        client.loop_start()
        return client

    def _published(self, message: Message) -> list[MQTTMessageInfo]:
        topics = Topics(self._settings.prefix, message.source)
        sent = self._introduced(message.source)
        match message:
            case EventMessage():
                events = f"{self._settings.prefix}/events"
                sent.append(self._client.publish(events, json.dumps(message.as_dict()), qos=1))
                sent += self._state(topics.anomaly, b"OFF" if message.type == "end" else b"ON")
                if (picture := _picture(message.still)) is not None:
                    sent += self._state(topics.snapshot, picture)
            case StatusMessage():
                sent += self._state(topics.status, json.dumps(message.as_dict()).encode())
                sent += self._state(topics.enabled, b"ON" if message.is_enabled else b"OFF")
            case ScoreMessage():
                sent += self._state(topics.threshold, f"{message.threshold:.6g}".encode())
                if message.at >= self._scored_at.get(message.source, -1e12) + self._settings.score_every_s:
                    self._scored_at[message.source] = message.at
                    sent += self._state(topics.score, f"{message.score:.6g}".encode())
        return sent

    def _introduced(self, source: str) -> list[MQTTMessageInfo]:
        """What is published once of each camera, before all else."""
        own, level = self._settings, plain_name(source)
        if level in self._sources:
            return []
        self._sources[level] = source
        sent = self._state(Topics(own.prefix, source).anomaly, b"OFF")
        if own.discovery:
            topic = f"{own.discovery_prefix}/device/{plain_name(own.prefix)}_{level}/config"
            found = device(source, own.prefix, takes_commands=self._controls is not None)
            sent += self._state(topic, json.dumps(found).encode())
        return sent

    def _state(self, topic: str, payload: bytes) -> list[MQTTMessageInfo]:
        """Publishes a state, unless it is as it was."""
        with self._lock:
            if self._states.get(topic) == payload:
                return []
            self._states[topic] = payload
        return [self._client.publish(topic, payload, qos=1, retain=True)]

    # what follows is called by the client's thread

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._why = str(reason).lower()  # such as "not authorized"
            return
        own = self._settings
        client.subscribe([(f"{own.prefix}/+/{what}/set", 1) for what in ("enabled", "threshold")])
        client.publish(f"{own.prefix}/status", b"online", qos=1, retain=True)
        with self._lock:
            states = list(self._states.items())
        for topic, payload in states:
            client.publish(topic, payload, qos=1, retain=True)
        self._connected.set()

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._connected.is_set():  # else it refused, and has said why
            self._why = "it closed the connection"
        self._connected.clear()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        level, what, _ = message.topic.removeprefix(f"{self._settings.prefix}/").split("/")
        if self._controls is None or message.retain or (source := self._sources.get(level)) is None:
            return
        text = message.payload[:40].decode("utf-8", "replace")
        try:
            if what == "threshold":
                self._controls.set_threshold(source, float(text))
            elif text in ("ON", "OFF"):
                self._controls.set_enabled(source, text == "ON")
            else:
                raise ValueError
        except (ValueError, MemaeError) as error:
            reason = error if isinstance(error, MemaeError) else f"{text!r} is no value for it"
            log.warning("sink %s: the command for %s of %s is not followed: %s", self.name, what, source, reason)


def _picture(still: Path | None) -> bytes | None:
    try:
        return still.read_bytes() if still else None
    except OSError:  # retention has deleted it
        return None

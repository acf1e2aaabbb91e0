"""MQTT with Debian's mosquitto, killed and started again, and the discovery message of Home Assistant."""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memae.errors import ConfigError
from memae.live.message import ScoreMessage, StatusMessage
from memae.live.sinks import Outbox, SinkError
from memae.live.sinks.home_assistant import device
from memae.live.sinks.mqtt import MqttSettings, MqttSink
from tests.live.sinks.small_messages import event, picture, wait_for

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto is not installed; `make services` installs it"
)


class Broker:
    """One mosquitto, which forgets all when it is killed."""

    def __init__(self, folder: Path, *, with_login: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        login = "allow_anonymous true"
        if with_login:
            words = folder / "passwords"
            words.write_text("memae:right-password\n")
            subprocess.run(["mosquitto_passwd", "-U", words], check=True)
            login = f"allow_anonymous false\npassword_file {words}"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{login}\n")
        self.start()

    def start(self) -> None:
        assert MOSQUITTO
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def answers() -> bool:
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(answers)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Subscriber:
    """Another client, which keeps all that it gets: (topic, payload, retained)."""

    def __init__(self, port: int, topic: str = "#") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.got: list[tuple[str, bytes, bool]] = []
        self.subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *rest: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *rest: self.subscribed.set()
        self.client.on_message = lambda client, data, one: self.got.append(
            (one.topic, bytes(one.payload), one.retain)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(5)

    def last(self, topic: str) -> bytes | None:
        return next((payload for name, payload, _ in reversed(self.got) if name == topic), None)

    def events(self) -> list[tuple[str, str]]:
        found = [json.loads(payload) for topic, payload, _ in self.got if topic == "memae/events"]
        return [(one["type"], one["id"]) for one in found]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    made = Subscriber(broker.port)
    yield made
    made.close()


def sink_to(broker: Broker, **more: Any) -> MqttSink:
    return MqttSink(MqttSettings.of({"host": "127.0.0.1", "port": broker.port, **more}, "sink mqtt"))


@needs_broker
def test_events_and_states_arrive_and_states_stay(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    still = picture(tmp_path)
    outbox = Outbox(sink_to(broker))
    outbox.put(event("new", still=still))
    wait_for(lambda: subscriber.last("memae/yard/anomaly") == b"ON")
    outbox.put(event("end", still=still))
    outbox.put(ScoreMessage("yard", 5.0, 0.25, 1.5))
    outbox.put(StatusMessage("yard", 5.0, is_up=True, note="night mode", fps=10.0))
    wait_for(lambda: outbox.facts.waiting == 0)
    late = Subscriber(broker.port)
    wait_for(lambda: late.last("memae/yard/status") is not None)
    assert subscriber.events() == [("new", "0001-a"), ("end", "0001-a")]
    assert late.events() == []  # an event is no state
    states = {topic: payload for topic, payload, retained in late.got if retained}
    assert states["memae/yard/anomaly"] == b"OFF"
    assert states["memae/yard/snapshot"] == still.read_bytes()
    assert (states["memae/yard/score"], states["memae/yard/threshold"]) == (b"0.25", b"1.5")
    assert json.loads(states["memae/yard/status"])["note"] == "night mode"
    assert states["memae/status"] == b"online"
    assert "homeassistant/device/memae_yard/config" in states
    outbox.close()
    wait_for(lambda: subscriber.last("memae/status") == b"offline")
    late.close()


@needs_broker
def test_a_broker_that_is_killed_and_started_again_has_every_event_and_state(
    broker: Broker, subscriber: Subscriber
) -> None:
    outbox = Outbox(sink_to(broker), first_wait_s=0.05, longest_wait_s=0.2)
    outbox.put(event("new", "0"))
    wait_for(lambda: subscriber.events() == [("new", "0")])
    subscriber.subscribed.clear()
    broker.kill()
    began = time.monotonic()
    for number in range(1, 10):
        outbox.put(event("end", f"{number - 1}"))
        outbox.put(event("new", f"{number}"))
    assert time.monotonic() - began < 0.5
    wait_for(lambda: outbox.facts.failures > 0)
    broker.start()
    assert subscriber.subscribed.wait(10)
    wait_for(lambda: outbox.facts.waiting == 0, 15)
    found = list(
        dict.fromkeys(subscriber.events())
    )  # at least once; those of the time before the subscription are out
    assert found == sorted(found, key=lambda one: (int(one[1]), one[0] == "end"))
    assert outbox.facts.lost == 0
    late = Subscriber(broker.port)
    wait_for(lambda: late.last("memae/yard/anomaly") == b"ON" and late.last("memae/status") == b"online")
    wait_for(lambda: late.last("homeassistant/device/memae_yard/config") is not None)
    late.close()
    outbox.close()


@needs_broker
def test_the_last_will_tells_that_the_watch_was_killed(broker: Broker, subscriber: Subscriber) -> None:
    sink = sink_to(broker)
    wait_for(lambda: subscriber.last("memae/status") == b"online")
    sink._client.socket().shutdown(socket.SHUT_RDWR)  # as a kill does
    wait_for(lambda: (("memae/status", b"offline", False)) in subscriber.got)
    sink.close()


class Watch:
    """What commands act on."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, object]] = []

    def set_threshold(self, source: str, threshold: float) -> None:
        if threshold < 0:
            raise ConfigError("threshold = -1: give 0 or more")
        self.commands.append((source, threshold))

    def set_enabled(self, source: str, is_enabled: bool) -> None:
        self.commands.append((source, is_enabled))


@needs_broker
def test_switch_and_threshold_act_on_the_watch(
    broker: Broker, subscriber: Subscriber, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, watch = Outbox(sink_to(broker)), Watch()
    outbox.follow(watch)
    outbox.put(StatusMessage("front door", 1.0, is_up=True))
    wait_for(lambda: subscriber.last("memae/front_door/enabled") == b"ON")
    for topic, payload in {
        "memae/front_door/threshold/set": "2.5",
        "memae/front_door/enabled/set": "OFF",
        "memae/attic/enabled/set": "OFF",
    }.items():
        subscriber.client.publish(topic, payload, qos=1).wait_for_publish(5)
    for bad in ("-1", "x", "\x1b" * 99):
        subscriber.client.publish("memae/front_door/threshold/set", bad, qos=1).wait_for_publish(5)
    wait_for(lambda: caplog.text.count("is not followed") == 3)
    assert watch.commands == [("front door", 2.5), ("front door", False)]
    found = json.loads(subscriber.last("homeassistant/device/memae_front_door/config") or b"")
    assert {"enabled", "threshold"} <= set(found["components"])
    outbox.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path, with_login=True)
    yield made
    made.kill()


@needs_broker
def test_a_wrong_password_is_told_and_not_shown(guarded: Broker) -> None:
    wrong = sink_to(guarded, username="memae", password="hunter22")
    right = sink_to(guarded, username="memae", password="right-password", client_id="other")
    try:
        wait_for(lambda: "authoriz" in wrong._why)
        with pytest.raises(SinkError, match="no connection to the broker") as error:
            wrong.send(event("new"))
        assert "authoriz" in str(error.value)
        assert "hunter22" not in str(error.value)
        right.send(event("new"))
    finally:
        wrong.close()
        right.close()


# As https://www.home-assistant.io/integrations/mqtt and the pages of its platforms say: keys of the message, of a
# device and of its origin, and of each platform, with those that must be there.
SHARED = {
    "availability",
    "availability_mode",
    "availability_topic",
    "state_topic",
    "command_topic",
    "qos",
    "encoding",
}
ROOT = {"device", "origin", "components"} | SHARED
DEVICE = {
    *("identifiers", "connections", "name", "manufacturer", "model", "model_id", "sw_version", "hw_version"),
    *("serial_number", "suggested_area", "via_device", "configuration_url"),
}
COMMON = SHARED | {
    *("platform", "unique_id", "name", "icon", "entity_category", "enabled_by_default", "default_entity_id"),
    *("json_attributes_topic", "json_attributes_template", "entity_picture"),
}
PLATFORMS = {
    "binary_sensor": (
        {"state_topic"},
        {"device_class", "payload_on", "payload_off", "value_template", "expire_after"},
    ),
    "sensor": ({"state_topic"}, {"state_class", "suggested_display_precision", "value_template", "device_class"}),
    "image": ({"image_topic"}, {"content_type", "image_encoding", "url_topic", "url_template"}),
    "switch": ({"command_topic"}, {"payload_on", "payload_off", "state_on", "state_off", "optimistic", "retain"}),
    "number": (
        {"command_topic"},
        {"min", "max", "step", "mode", "unit_of_measurement", "value_template", "retain"},
    ),
}


@pytest.mark.parametrize("takes_commands", [True, False])
def test_the_discovery_message_is_what_home_assistant_takes(takes_commands: bool) -> None:
    found = json.loads(json.dumps(device("front door/ß", "memae", takes_commands=takes_commands)))
    assert set(found) <= ROOT
    assert {"device", "origin", "components"} <= set(found)
    assert set(found["device"]) <= DEVICE
    assert found["device"]["identifiers"] == ["memae_front_door_"]
    assert set(found["origin"]) <= {"name", "sw_version", "support_url"}
    assert found["origin"]["name"]
    assert found["availability_mode"] in ("all", "any", "latest")
    for one in found["availability"]:
        assert set(one) <= {"topic", "payload_available", "payload_not_available", "value_template"}
        assert one["topic"]
    wanted = {"binary_sensor", "sensor", "image"} | ({"switch", "number"} if takes_commands else set())
    assert {one["platform"] for one in found["components"].values()} == wanted
    identifiers = [one["unique_id"] for one in found["components"].values()]
    assert len(set(identifiers)) == len(identifiers)
    for entity in found["components"].values():
        needed, allowed = PLATFORMS[entity["platform"]]
        assert needed <= set(entity) <= COMMON | needed | allowed
        for key, topic in entity.items():
            if key.endswith("_topic"):
                assert not set("+#\x00 ") & set(topic)
    if takes_commands:
        number = found["components"]["threshold"]
        assert number["min"] < number["max"]
        assert number["step"] >= 0.001
        assert number["mode"] in ("auto", "box", "slider")

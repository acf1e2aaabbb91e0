"""The message by which Home Assistant finds a camera: MQTT discovery of a device with all its entities."""

from __future__ import annotations

import re
from typing import Any

from memae import __version__

__all__ = ["Topics", "device", "plain_name"]

UP = "{{ 'online' if value_json.is_up else 'offline' }}"
FINEST = 0.001  # the least step of a number in Home Assistant
MOST = 1e6  # of a threshold; Home Assistant wants some limit


def plain_name(source: str) -> str:
    """A name of a camera as a level of a topic and a part of an identifier: letters, digits, "_" and "-"."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", source) or "_"


class Topics:
    """The topics of one camera.

    Args:
        prefix: the first level, such as "memae".
        source: name of the camera.
    """

    def __init__(self, prefix: str, source: str) -> None:
        camera = f"{prefix}/{plain_name(source)}"
        self.anomaly, self.score, self.snapshot = f"{camera}/anomaly", f"{camera}/score", f"{camera}/snapshot"
        self.status, self.threshold, self.enabled = f"{camera}/status", f"{camera}/threshold", f"{camera}/enabled"
        self.set_threshold, self.set_enabled = f"{self.threshold}/set", f"{self.enabled}/set"


def device(source: str, prefix: str, *, takes_commands: bool) -> dict[str, Any]:
    """The discovery message of a camera: anomaly, score, picture and, where commands are taken, switch and threshold.

    Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload (Home Assistant 2024.12 or newer).
    """
    topics, name = Topics(prefix, source), f"{plain_name(prefix)}_{plain_name(source)}"
    entities: dict[str, dict[str, Any]] = {
        "anomaly": {
            "platform": "binary_sensor",
            "name": "Anomaly",
            "device_class": "problem",
            "state_topic": topics.anomaly,
        },
        "score": {
            "platform": "sensor",
            "name": "Score",
            "state_class": "measurement",
            "suggested_display_precision": 3,
            "state_topic": topics.score,
        },
        "snapshot": {
            "platform": "image",
            "name": "Last anomaly",
            "image_topic": topics.snapshot,
            "content_type": "image/jpeg",
        },
    }
    if takes_commands:
        entities["enabled"] = {
            "platform": "switch",
            "name": "Watch",
            "state_topic": topics.enabled,
            "command_topic": topics.set_enabled,
        }
        entities["threshold"] = {
            "platform": "number",
            "name": "Threshold",
            "entity_category": "config",
            "state_topic": topics.threshold,
            "command_topic": topics.set_threshold,
            "min": 0,
            "max": MOST,
            "step": FINEST,
            "mode": "box",
        }
    return {
        "device": {"identifiers": [name], "name": source, "manufacturer": "memae", "sw_version": __version__},
        "origin": {"name": "memae", "sw_version": __version__},
        "availability": [{"topic": f"{prefix}/status"}, {"topic": topics.status, "value_template": UP}],
        "availability_mode": "all",
        "components": {key: {**entity, "unique_id": f"{name}_{key}"} for key, entity in entities.items()},
    }

"""Feature names that datasets and observations share (LeRobot's conventions)."""

from __future__ import annotations

STATE = "observation.state"
ACTION = "action"
TASK = "task"
IMAGE_PREFIX = "observation.images."


def image_key(camera: str) -> str:
    """The feature of a camera: `observation.images.<camera>`."""
    return IMAGE_PREFIX + camera

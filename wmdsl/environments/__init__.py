"""Simulators with scripted experts, demonstrations from them and closed-loop evaluation.

In: a name such as `metaworld/push-v3`. Out: observations, datasets, success rates.
Invariant: importing this package loads no simulator, no numpy and no torch.
"""

from wmdsl.environments.base import (
    Environment,
    EnvironmentSpec,
    EnvironmentUnavailable,
    UnknownEnvironment,
)
from wmdsl.environments.registry import make, names, spec

__all__ = [
    "Environment",
    "EnvironmentSpec",
    "EnvironmentUnavailable",
    "UnknownEnvironment",
    "make",
    "names",
    "spec",
]

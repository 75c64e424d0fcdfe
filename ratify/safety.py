"""What keeps a run to itself: telemetry switched off, and addresses that only this machine reaches.

docs/security.md says what each variable does, and what cannot be switched off.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import MutableMapping

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variable → the value that switches a library's reports off."""


def switch_telemetry_off(environment: MutableMapping[str, str] = os.environ) -> None:
    """Switch every library's reports off where the environment does not say otherwise; before they are imported."""
    for name, value in TELEMETRY_OFF.items():
        environment.setdefault(name, value)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""How a setting is refused."""

from __future__ import annotations

from faststyle.errors import ConfigError

__all__ = ["require"]


def require(holds: bool, message: str) -> None:
    """Raise ConfigError with a message that names the flag, unless the condition holds."""
    if not holds:
        raise ConfigError(message)

"""Libraries that only some kinds of stores need: extras of the package, imported at use."""

from importlib import import_module
from typing import Any

from blocks.errors import ConfigurationError


def imported(module: str, extra: str) -> Any:
    """Return a module of one of pgsalvo's extras.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # what the extra itself lacks is told as it is
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(
            f"this kind of store needs the extra {extra}", f"pip install 'pgsalvo[{extra}]'"
        ) from None

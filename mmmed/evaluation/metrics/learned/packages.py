"""Packages that judge reports and are not required, since they bring models of their own."""

from importlib import import_module
from types import ModuleType

from mmmed.errors import ConfigError


def package(name: str, *, distribution: str) -> ModuleType:
    """Import a package, or say how to get it.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"this metric needs the package {distribution} ({error}); pip install {distribution}"
        ) from error

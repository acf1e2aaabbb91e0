"""Old names of arguments and settings: accepted until 0.2.0, with one warning each.

`modules` has modules under their old names, such as `memae.history`; `watcher` what `progress=` took before.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from memae.errors import ConfigError

__all__ = ["renamed_arguments", "renamed_attribute", "renamed_settings", "warn_renamed"]

REMOVED_IN = "0.2.0"

F = TypeVar("F", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Warns the caller's caller that a name has changed; Python shows it once for each line that uses the old one."""
    text = f"{old} is now called {new}; the old name is accepted until memae {REMOVED_IN}"
    warnings.warn(text, FutureWarning, stacklevel=stacklevel + 1)


def renamed_arguments(**new_names: str) -> Callable[[F], F]:
    """A decorator: the function takes keyword arguments under their old names too, given as old="new".

    Raises:
        TypeError: an argument is given under both names.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def accepting(*args: Any, **kwargs: Any) -> Any:
            for old in new_names.keys() & kwargs.keys():
                new = new_names[old]
                if new in kwargs:
                    raise TypeError(f"{old} is the old name of {new}; give {new} only")
                warn_renamed(f"the argument {old}", new)
                value = kwargs.pop(old)
                kwargs[new] = _callback(value) if new == "progress" else value
            return function(*args, **kwargs)

        return cast("F", accepting)

    return decorate


def _callback(listener: Any) -> Any:
    from memae.deprecated.watcher import callback_of

    return callback_of(listener)


class renamed_attribute:  # noqa: N801  used like `property`
    """An attribute under its old name: `old = renamed_attribute("new")` in the body of a class."""

    def __init__(self, new_name: str) -> None:
        self._new_name = new_name

    def __set_name__(self, owner: type, name: str) -> None:
        self._old_name = f"{owner.__name__}.{name}"

    def __get__(self, instance: object, owner: type) -> Any:
        """The attribute under its new name, with a warning."""
        if instance is None:
            return self
        warn_renamed(self._old_name, self._new_name)
        return getattr(instance, self._new_name)


def renamed_settings(
    settings: Mapping[str, Any], new_names: Mapping[str, str], *, warn: bool = True, stacklevel: int = 2
) -> dict[str, Any]:
    """A copy of `settings` in which old names, such as {"train.old": "train.new"}, are replaced by the new ones.

    Args:
        settings: sections with their settings.
        new_names: "section.key" to "section.key", old to new.
        warn: False for what was written by an older version, such as a saved model.
        stacklevel: as of `warnings.warn`, counted from the caller.

    Raises:
        ConfigError: a setting is given under both names.
    """
    found = {name: dict(part) if isinstance(part, Mapping) else part for name, part in settings.items()}
    for old, new in new_names.items():
        (old_section, _, old_key), (section, _, key) = old.partition("."), new.partition(".")
        values = found.get(old_section)
        if not isinstance(values, dict) or old_key not in values:
            continue
        if key in (target := found.setdefault(section, {})):
            raise ConfigError(f"{old} is the old name of {new}; give {new} only")
        if warn:
            warn_renamed(old, new, stacklevel)
        target[key] = values.pop(old_key)
    return found

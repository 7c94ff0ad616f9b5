"""Whether a class is a component: of its kind, whole, and made as its interface says."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from ..errors import BrokenPlugin


def check_class(found: Any, kind: str, who: str) -> type[Any]:
    """``found`` where it is a class of the kind that can be made.

    who: how it is called in messages. Raises BrokenPlugin, which says what it lacks.
    """
    from . import interfaces

    wanted: type[Any] = getattr(interfaces, kind.capitalize())
    if not (isinstance(found, type) and issubclass(found, wanted)):
        raise BrokenPlugin(f"{who} is not a subclass of deepclust.core.{wanted.__name__}")
    config: Any = getattr(found, "Config", None)
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise BrokenPlugin(f"{who} lacks {', '.join(missing)}")
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise BrokenPlugin(f"{who}: its Config is no dataclass; write @dataclass(frozen=True) above it")
    takes = list(inspect.signature(vars(wanted)["__init__"]).parameters)
    made = inspect.signature(getattr(found, "__init__"))  # noqa: B009 - of the class, not of an instance
    try:
        made.bind(*takes)
    except TypeError:
        raise BrokenPlugin(
            f"{who} has __init__({', '.join(map(str, made.parameters.values()))}), but it is made by "
            f"__init__({', '.join(takes)}); what else it needs are fields of its Config"
        ) from None
    return found

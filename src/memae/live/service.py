"""A watch with its sinks, and with its page where one is wanted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memae.errors import MissingExtraError
from memae.live.config import WatchConfig
from memae.live.sinks import Outbox, outboxes
from memae.live.watch import Watch

if TYPE_CHECKING:
    from memae.live.page import PageServer

__all__ = ["PagePlace", "opened_watch"]

log = logging.getLogger("memae")


@dataclass(frozen=True)
class PagePlace:
    """Where the page of a watch is."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    token: str | None = None
    """That whoever looks must give; an address that others can reach needs one."""


@contextmanager
def opened_watch(detector: Any, config: WatchConfig, page: PagePlace | None = None) -> Iterator[Watch]:
    """A watch that is ready to run, for a block; its sinks and its page are closed after it.

    Commands of sinks, such as those of Home Assistant, act on it. The page reads the sink `history`; if there is none,
    `history.sqlite` in the folder of the watch is one.

    Raises:
        ConfigError: as `Watch`; a sink that cannot be made, or an address that the page cannot have.
        MissingExtraError: the page, or a sink, needs a package that is not installed.
    """
    with ExitStack() as stack:
        tables = _with_history(config) if page else config.sinks
        boxes = outboxes(tables)
        for box in boxes:
            stack.callback(box.close)
        if page:
            history = next(Path(table["path"]) for table in tables if table.get("kind") == "history")
            watch = _with_page(detector, config, boxes, page, history, stack)
        else:
            watch = Watch(detector, config, boxes)
        for box in boxes:
            box.follow(watch)
        yield watch


def _with_page(
    detector: Any, config: WatchConfig, boxes: Sequence[Outbox], place: PagePlace, history: Path, stack: ExitStack
) -> Watch:
    try:
        from memae.live.metrics import Metrics
        from memae.live.page import Feed, PageServer, create_app, listen
        from memae.live.sinks.history import History
    except ModuleNotFoundError:
        raise MissingExtraError("The page of a watch", "live") from None
    listener = stack.enter_context(listen(place.host, place.port, place.token))
    feed, metrics = Feed(), Metrics(boxes)
    watch = Watch(detector, config, [*boxes, feed, metrics], metrics)
    server = PageServer(create_app(watch, History(history), feed, metrics, place.token), listener)
    stack.callback(server.close)
    log.info("the page is on %s", _shown(place, server))
    return watch


def _with_history(config: WatchConfig) -> tuple[Mapping[str, Any], ...]:
    if any(sink.get("kind") == "history" for sink in config.sinks):
        return config.sinks
    return *config.sinks, {"kind": "history", "path": str(config.out / "history.sqlite")}


def _shown(place: PagePlace, server: PageServer) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"http://{host}:{server.port}"

"""memae watch: watch cameras, and tell of events while they happen."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.cli import options
from memae.cli.console import Console
from memae.cli.options import option
from memae.errors import ConfigError, DataError

__all__ = ["watch"]


def watch(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="A model of video.", show_default=False)
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="rtsp://, http:// (MJPEG, MP4), a device, or a video file.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, option("--config FILE.toml", "Model, cameras and sinks, in place of MODEL and SOURCE.")
    ] = None,
    out: Annotated[
        Path | None, option("--out/-o FOLDER", "Stills, clips, and events as JSON lines. Default: watch.")
    ] = None,
    calibrate: Annotated[
        str | None, option("--calibrate TIME", "First take so much of the cameras as normal, such as 10m.")
    ] = None,
    page: Annotated[
        str | None,
        option(
            "--page HOST:PORT", "Show the watch in a browser. A port alone is on 127.0.0.1; others need a token."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, option("--token-file FILE", "Token of the page. Default: that of MEMAE_TOKEN, if set.")
    ] = None,
    on_threshold: options.OnThreshold = None,
    per_hour: options.PerHour = None,
    device: options.Device = "auto",
    engine: options.Engine = "auto",
) -> None:
    """Watch cameras with one model, and tell of events while they happen.

        memae watch street.model rtsp://camera.lan/main --out watch/

        memae watch --config watch.toml --page 8090

    Each event has a still and a clip, which nothing encodes again. Ctrl-C ends the watch; SIGHUP reads --config again.
    """
    from memae.detector import Detector
    from memae.live.config import read_watch_config
    from memae.live.service import opened_watch

    if (config is None) == (model is None):
        raise ConfigError("watch: give MODEL and SOURCE, or --config")
    given = {"--out": out, "--on-threshold": on_threshold, "--false-alarms-per-hour": per_hour}
    if config and (also := [name for name, value in given.items() if value is not None]):
        raise ConfigError(f"{also[0]}: stands in the file of --config; leave it out here")
    if token_file and not page:
        raise ConfigError("--token-file: is for the page; add --page, or leave it out")
    settings = (
        read_watch_config(config)
        if config
        else _settings(model, sources or [], out or Path("watch"), on_threshold, per_hour)
    )
    _log_to_stderr()
    seconds = seconds_of(calibrate) if calibrate else None
    place = _page_place(page, token_file) if page else None
    detector = Detector.load(settings.model, device=options.check_device(device), engine=engine)  # type: ignore[arg-type]  # load checks it
    with opened_watch(detector, settings, place) as watching:
        _on_signals(watching, config)
        if seconds:
            watching.calibrate(seconds)
        watching.run()
    if watching.failed:
        raise DataError(f"{', '.join(watching.failed)}: could not be read; the lines above say why")


def _page_place(text: str, token_file: Path | None) -> Any:
    from memae.live.service import PagePlace
    from memae.web import read_token

    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"--page {text}: give HOST:PORT, or a port alone, such as 8090")
    return PagePlace(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port), read_token(token_file))


def seconds_of(text: str) -> float:
    """Seconds in a text such as 90s, 10m or 1h.

    Raises:
        ConfigError: another text.
    """
    number, unit = text[:-1], text[-1:]
    try:
        found = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found < 1e9:
        raise ConfigError(f"{text}: give a time such as 90s, 10m or 1h")
    return found


def _settings(
    model: Path | None, sources: list[str], out: Path, on_threshold: float | None, per_hour: float | None
) -> Any:
    from memae.live.address import Address
    from memae.live.config import CameraConfig, EventSettings, WatchConfig

    assert model is not None
    addresses = [Address(source) for source in sources]
    cameras = tuple(CameraConfig(address.name, address, on_threshold=on_threshold) for address in addresses)
    events = EventSettings() if per_hour is None else EventSettings(false_alarms_per_hour=per_hour)
    sinks = ({"kind": "jsonl", "folder": str(out)},)
    return WatchConfig(model, cameras, out, events, sinks=sinks)


def _on_signals(watching: Any, config: Path | None) -> None:
    from memae.errors import MemaeError
    from memae.live.config import read_watch_config

    def reload(*_: object) -> None:
        import logging

        try:
            if config:
                watching.reload(read_watch_config(config))
        except MemaeError as error:
            logging.getLogger("memae").error("the config stays as it was: %s", error)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: watching.stop())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, reload)


def _log_to_stderr() -> None:
    """One line for each thing that is told, whether or not there is a terminal."""
    import logging

    Console()
    logger = logging.getLogger("memae")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.handlers = [handler]
    logger.setLevel(logging.INFO)

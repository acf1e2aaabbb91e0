"""Progress on a terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from memae.errors import printable
from memae.progress import End, Event, Stage, Warn
from memae.progress.work import Pace, Work

__all__ = ["ProgressBar"]

REFRESHED_HZ = 5
SHOWN_AFTER_S = 0.5  # what is over sooner would only flicker


class ProgressBar:
    """A bar for what takes longer than half a second: what, how far, how fast, how long still; gone when it is over.

    Of a training one line stays: its epochs, the loss, the loss of held-out samples, the state of the memory. The time
    left is that of the whole job where the job has a plan, as a fit does. Off a terminal, or with `silent`, there are
    only warnings.
    """

    def __init__(self, console: Console | None = None, *, silent: bool = False) -> None:
        self._console = console or Console(stderr=True)
        self._on = self._console.is_terminal and not silent
        self._work = Work()
        self._display: _Display | None = None

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        pace = self._work.follow(event)
        if isinstance(event, Warn):
            self._say(f"warning: {event.message}")
        elif not self._on or pace is None:
            return
        elif isinstance(event, Stage):
            self._begin(pace)
        elif isinstance(event, End):
            self._end(pace)

    def _begin(self, pace: Pace) -> None:
        if self._display is None:
            self._display = _Display(self._work, self._console)
            self._display.start()
        total = pace.stage.total
        self._display.add_task(pace.name, total=total.samples if total else None, facts="")

    def _end(self, pace: Pace) -> None:
        if self._display:
            self._display.remove_task(self._display.task_ids[-1])
        if self._display and not self._work.paces:
            self._display.stop()
            self._display = None
        if pace.record:
            self._say(f"{pace.name}: {pace.record.epoch} of {pace.stage.epochs} epochs, {pace.details}")

    def _say(self, line: str) -> None:
        self._console.print(printable(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


class _Display(Progress):
    """The innermost stage: its name, a bar and facts, and below them the details; nothing of what has just begun."""

    def __init__(self, work: Work, console: Console) -> None:
        self._work = work
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console,
            refresh_per_second=REFRESHED_HZ,
            transient=True,
            redirect_stdout=False,  # rows may go there
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """What stands on the screen."""
        for task, pace in zip(self.tasks[-1:], self._work.paces[-1:], strict=False):
            if pace.seconds >= SHOWN_AFTER_S:
                self.update(
                    task.id, description=printable(pace.title), completed=pace.done, facts=self._work.facts
                )
                yield self.make_tasks_table(self.tasks[-1:])
                yield from [Text(printable(pace.details), no_wrap=True, overflow="ellipsis")] * bool(pace.details)

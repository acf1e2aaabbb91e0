"""A progress callback for tests: the events by kind, as calls of methods that a test fills in."""

from collections.abc import Callable

from memae.progress import Advance, End, EpochRecord, Event, Stage, Warn


class Listener:
    def __call__(self, event: Event) -> None:
        match event:
            case Stage(epochs=None):
                self.begin_stage(event)
            case Stage():
                assert event.epochs is not None and event.total is not None
                self.begin(event.epochs, event.total.samples // max(1, event.epochs), event.epochs_done)
            case Advance(loss=None):
                self.advance(event.count, event.place)
            case Advance():
                self.step(event.count, event.loss)
            case EpochRecord():
                self.epoch(event)
            case End(Stage(epochs=None)):
                self.end_stage()
            case End():
                self.end()
            case Warn():
                self.warn(event.message)

    def begin_stage(self, stage: Stage) -> None:
        pass

    def advance(self, count: int, place: object) -> None:
        pass

    def end_stage(self) -> None:
        pass

    def begin(self, epochs: int, samples: int, done: int) -> None:
        pass

    def step(self, samples: int, loss: Callable[[], float] | None) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        pass

    def end(self) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

"""A progress callback for tests: the events by kind, as calls of methods that a test fills in."""

from memae.progress import Advance, End, EpochRecord, Stage, Warn


class Listener:
    def __call__(self, event):
        match event:
            case Stage(epochs=None):
                self.begin_stage(event)
            case Stage():
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

    def begin_stage(self, stage):
        pass

    def advance(self, count, place):
        pass

    def end_stage(self):
        pass

    def begin(self, epochs, samples, done):
        pass

    def step(self, samples, loss):
        pass

    def epoch(self, record):
        pass

    def end(self):
        pass

    def warn(self, message):
        pass

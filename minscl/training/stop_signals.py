"""An orderly stop: Ctrl-C and SIGTERM end a run after its current step, with a checkpoint. Read next: run.py."""

import signal
from types import FrameType


class StopSignals:
    """Ctrl-C and SIGTERM request a stop after the current step, so no partial step is saved; a second stops at once.

    with StopSignals() as stop:
        ...
        if stop.requested: break
    """

    signal_number = 0  # of the signal that asked for the stop

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number != 0

    @property
    def exit_status(self) -> int:
        """128 + signal number, the shell's convention; SIGTERM's where another process got the signal."""
        return 128 + (self.signal_number or signal.SIGTERM)

    def __enter__(self) -> "StopSignals":
        self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal_number = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

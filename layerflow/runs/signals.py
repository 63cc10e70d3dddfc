"""Signals during a training: stop after the current step, or save and continue."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = (signal.SIGINT, signal.SIGTERM)
SAVING = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal stopped the training; everything is saved.

    Attributes:
        exit_code: 128 + the signal's number, as a shell reports it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Signals:
    """In this context, SIGINT and SIGTERM stop the training after the current step; SIGHUP and SIGUSR1 save it.

    A second SIGINT or SIGTERM ends the process immediately. Python handles signals in the main thread only; in other
    threads this context does nothing.

    Attributes:
        stop: the number of the signal that asked to stop, or None.
        save: whether a checkpoint was asked for.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._previous[number] = signal.signal(number, self._ask_to_stop)
            for number in SAVING:
                self._previous[number] = signal.signal(number, self._ask_to_save)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop is not None:
            os._exit(128 + number)
        self.stop = number
        os.write(2, b"\nstopping after this step; press Ctrl-C again to stop immediately, without saving\n")

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

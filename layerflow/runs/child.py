"""The process of one run among many: the same command line, ended together with the process that started it."""

import os
import signal
import sys
import threading

from layerflow.cli import main as run_command_line


def main() -> None:
    """Run `sys.argv` as `layerflow` would, and stop as on SIGTERM when the parent is gone."""
    sys.argv[0] = "layerflow"
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    sys.exit(run_command_line())


def _stop_without_parent() -> None:
    """Wait for the end of stdin: a pipe that the parent holds open as long as it lives and never writes to."""
    os.read(0, 1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # nobody reads them any more, and a broken pipe must not be what ends the run
        os.dup2(nowhere, stream)
    os.kill(os.getpid(), signal.SIGTERM)

"""Times `import layerflow` against `import numpy`, in fresh processes by turns; prints the ratio of the medians.

python scripts/bench_import.py [rounds]
"""

import statistics
import subprocess
import sys

TIMED = "import time; start = time.process_time(); import {module}; print(time.process_time() - start)"


def seconds(module: str) -> float:
    """Return the processor time of one import in a fresh interpreter."""
    command = [sys.executable, "-c", TIMED.format(module=module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure by turns, so that the machine's moods hit both alike."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    modules = ("numpy", "layerflow")
    times: dict[str, list[float]] = {module: [] for module in modules}
    for module in modules:
        seconds(module)  # the first import writes byte code
    for _ in range(rounds):
        for module in modules:
            times[module].append(seconds(module))
    medians = {module: statistics.median(values) for module, values in times.items()}
    for module, median in medians.items():
        print(f"{module:<10} {median * 1000:6.1f} ms")
    print(f"ratio      {medians['layerflow'] / medians['numpy']:6.2f}")


if __name__ == "__main__":
    main()

"""Windows over the rows of a table, in the order of time."""

from dataclasses import dataclass

import numpy as np

from layerflow.data.dataset import Dataset
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import DataPath, Reader
from layerflow.data.table import CSV
from layerflow.errors import ConfigError, DataError


@dataclass
class Windows(Reader):
    """A time series: a window of rows predicts the values that follow it. x is (samples, length, columns).

    The rows of the file are in the order of time. The parts of the data are split in time too, the validation part
    after the training part and the test part at the end, and no row of one part is in a window of another.

    Args:
        path: The CSV file.
        target: The column to predict, or several.
        columns: The columns of a window; by default the target's.
        length: Rows per window.
        horizon: How many rows after the window are predicted.
        stride: Rows from one window to the next.
        delimiter: The character between cells.
    """

    path: DataPath
    target: str | list[str]
    columns: list[str] | None = None
    length: int = 24
    horizon: int = 1
    stride: int = 1
    delimiter: str = ","

    def __post_init__(self) -> None:
        for name in ("length", "horizon", "stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Windows: {name!r} must be at least 1, got {getattr(self, name)}")
        if self.columns is not None and not self.columns:
            raise ConfigError("Windows: 'columns' must have at least one name")

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read the file; see `Reader.read`."""
        targets = [self.target] if isinstance(self.target, str) else self.target
        columns = self.columns or targets
        names = list(dict.fromkeys([*columns, *targets]))
        table = CSV(self.path, features=names, delimiter=self.delimiter).read(need_target=False)
        values = np.asarray(table.x, np.float64)
        ahead = self.horizon if need_target else 0
        starts = np.arange(0, len(values) - self.length - ahead + 1, self.stride)
        if not len(starts):
            raise DataError(
                f"{self.path}: {len(values)} rows are too few for a window of {self.length} and {ahead} after it"
            )
        inputs, outputs = (values[:, [names.index(name) for name in chosen]] for chosen in (columns, targets))
        x = inputs[starts[:, np.newaxis] + np.arange(self.length)]
        y = None
        if need_target:
            y = outputs[starts[:, np.newaxis] + self.length + np.arange(self.horizon)].reshape(len(starts), -1)
            y = y[:, 0] if y.shape[1] == 1 else y
        gap = -(-(self.length + self.horizon - 1) // self.stride)
        return Dataset(x, y, None, None, table.name, table.checksum, table.notes, gap=gap)

"""What a reader is; write your own by subclassing it."""

from abc import ABC, abstractmethod

from layerflow.data.dataset import Dataset
from layerflow.data.preprocessing import Preprocessing


class Reader(ABC):
    """A source of data. The constructor's signature is what a configuration can say, its docstring explains the keys.

    Arguments that are files are annotated `DataPath` (or `list[DataPath]`, or `DataPath | None`), so that relative
    paths start at the configuration's folder. The first argument is the file (or files) with the features.
    """

    @abstractmethod
    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Return the samples.

        Args:
            need_target: False reads for prediction: targets are not looked at, and the result's y is None.
            like: What was learned from the training data: the result has the same columns, categories and classes,
                or DataError is raised. None learns them from this data.

        Raises:
            DataError: The data is missing, damaged, or does not fit.
        """

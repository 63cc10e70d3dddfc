"""The base class of readers; subclass it to write your own."""

from abc import ABC, abstractmethod

from layerflow.data.dataset import Dataset
from layerflow.data.preprocessing import Preprocessing


class Reader(ABC):
    """A source of data. The constructor's arguments are its keys in a configuration; its docstring explains them.

    Arguments that are files are annotated `DataPath` (or `list[DataPath]`, or `DataPath | None`), so that paths are
    relative to the folder of the configuration. The first argument is the file (or files) with the features.
    """

    @abstractmethod
    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Return the samples.

        Args:
            need_target: False reads for prediction: targets are ignored, and y of the result is None.
            like: The preprocessing fitted to the training data: the result has the same columns, categories and
                classes, or DataError is raised. None finds them in this data.

        Raises:
            DataError: The data is missing, damaged, or does not fit.
        """

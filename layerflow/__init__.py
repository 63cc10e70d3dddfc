"""layerflow: neural networks made of explicit gates; every derivative can be read, and every one is proven."""

from layerflow.containers import ComputationalGraph, Node, Sequential
from layerflow.errors import ConfigError, DataError, DivergedError, GateError, LayerflowError
from layerflow.gate import Gate
from layerflow.gates.affine import Linear
from layerflow.gates.arithmetic import Add, Multiply
from layerflow.parameter import Buffer, Parameter
from layerflow.store import ParameterStore

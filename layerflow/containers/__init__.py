"""Containers: gates that are made of gates."""

from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.node import Node
from layerflow.containers.sequential import Sequential

__all__ = ["ComputationalGraph", "Node", "Sequential"]

"""Configuration: YAML with positions, checks against real signatures, and the objects that it describes."""

from layerflow.config.config import Config
from layerflow.config.loading import load_config, load_config_text
from layerflow.config.registry import Registry

__all__ = ["Config", "Registry", "load_config", "load_config_text"]

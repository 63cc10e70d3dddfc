"""Configuration: YAML with positions, checks against real signatures, and the objects that it describes."""

from layerflow.config.describing import describe_model, rebuild_model
from layerflow.config.experiment import Config, load_config, load_config_text
from layerflow.config.registry import Registry

__all__ = [
    "Config",
    "Registry",
    "describe_model",
    "load_config",
    "load_config_text",
    "rebuild_model",
]

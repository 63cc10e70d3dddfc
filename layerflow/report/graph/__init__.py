"""Pictures of computation graphs, with values and gradients on the wires."""

from layerflow.report.graph.drawing import bundle, draw, explain_gate, plain_text, svg_text

__all__ = ["bundle", "draw", "explain_gate", "plain_text", "svg_text"]

"""Models to and from ONNX; needs `layerflow[onnx]`."""

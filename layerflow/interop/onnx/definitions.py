"""Operators that ONNX defines by others: their definitions, with attributes and types filled in."""

from typing import Any


def definition_of(onnx: Any, node: Any, opset: int, types: dict[str, Any]) -> Any:
    """Return the function that defines an operator, given the types of its inputs; None if there is none."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        return schema.function_body if schema.function_body.node else None
    if not schema.has_context_dependent_function or any(name and name not in types for name in node.input):
        return None
    known = [types[name].SerializeToString() if name else b"" for name in node.input]
    try:
        body = onnx.FunctionProto.FromString(schema.get_context_dependent_function(node.SerializeToString(), known))
    except Exception:  # whatever onnx raises: the definition is not for such inputs
        return None
    return body if body.node else None


def operators_of(onnx: Any, node: Any, body: Any, absent: set[str]) -> list[Any]:
    """Return copies of the operators of a definition, with the attributes of a node, and without absent inputs."""
    given = {each.name: each for each in body.attribute_proto} | {each.name: each for each in node.attribute}
    made = []
    for each in body.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(each)
        del copied.attribute[:]
        for attribute in each.attribute:
            value = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if value is not None:
                new = copied.attribute.add()
                new.CopyFrom(value)
                new.name = attribute.name
        for i, name in enumerate(copied.input):
            if name in absent:
                copied.input[i] = ""
        made.append(copied)
    return made


def inferred_types(onnx: Any, nodes: list[Any], types: dict[str, Any], versions: dict[str, int]) -> dict[str, Any]:
    """Return the types of the values that operators compute, as far as onnx can tell."""
    inputs = [onnx.helper.make_value_info(name, kind) for name, kind in types.items()]
    graph = onnx.helper.make_graph(nodes, "definition", inputs, [])
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
    try:
        model = onnx.helper.make_model(graph, opset_imports=imports)
        found = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # not all operators have rules; what is known has to do
        return {}
    return {each.name: each.type for each in found.graph.value_info}

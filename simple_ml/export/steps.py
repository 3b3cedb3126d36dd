"""Converters for steps that skl2onnx does not convert, or not in float64."""

import contextlib
import numpy as np
import sys
from collections.abc import Callable, Iterator
from onnx import TensorProto, helper
from skl2onnx import update_registered_converter
from skl2onnx.common import _registration, tree_ensemble
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from skl2onnx.operator_converters import decision_tree, gradient_boosting, isolation_forest, random_forest
from skl2onnx.operator_converters.common import concatenate_variables
from typing import Any
from unittest import mock

IMPUTER, FUNCTION = "SklearnSimpleImputer", "SklearnFunctionTransformer"  # skl2onnx's names

# functions of NumPy as nodes of ONNX: the operator, and a constant for its second input
UFUNCS: dict[Any, list[tuple[str, float | None]]] = {
    np.log1p: [("Add", 1), ("Log", None)],
    np.expm1: [("Exp", None), ("Sub", 1)],
    np.log: [("Log", None)],
    np.exp: [("Exp", None)],
    np.log10: [("Log", None), ("Div", np.log(10))],
    np.log2: [("Log", None), ("Div", np.log(2))],
    np.sqrt: [("Sqrt", None)],
    np.square: [("Pow", 2)],
    np.abs: [("Abs", None)],
    np.negative: [("Neg", None)],
    np.sin: [("Sin", None)],
    np.cos: [("Cos", None)],
}


def with_nulls(attributes: dict, is_classifier: bool, tree: Any, *others: Any, **named: Any) -> None:
    """Add a tree of scikit-learn as skl2onnx does, and where nulls go, which skl2onnx leaves out."""
    start = len(attributes["nodes_values"])
    tree_ensemble.add_tree_to_attribute_pairs(attributes, is_classifier, tree, *others, **named)
    attributes["nodes_missing_value_tracks_true"][start:] = tree.missing_go_to_left.astype(int).tolist()


def number_of(container: Any, name: str, value: Any, is_double: bool) -> None:
    array = np.atleast_1d(np.asarray(value, np.float64 if is_double else np.float32))
    kind = TensorProto.DOUBLE if is_double else TensorProto.FLOAT
    container.add_initializer(name, kind, list(array.shape), array.ravel().tolist())


def imputer(convert: Callable) -> Callable:
    """Return a converter for SimpleImputer in float64; that of skl2onnx is for float32 and for texts."""

    def in_float64(scope: Any, operator: Any, container: Any) -> None:
        step = operator.raw_operator
        if not isinstance(operator.inputs[0].type, DoubleTensorType):
            return convert(scope, operator, container)
        if not isinstance(step.missing_values, float) or step.add_indicator or np.isnan(step.statistics_).any():
            raise NotImplementedError("a setting of SimpleImputer")
        values = concatenate_variables(scope, operator.inputs, container)
        fill, is_missing = scope.get_unique_variable_name("fill"), scope.get_unique_variable_name("is_missing")
        number_of(container, fill, step.statistics_[np.newaxis], True)
        container.add_node("IsNaN", [values], [is_missing], name=scope.get_unique_operator_name("IsNaN"))
        name = scope.get_unique_operator_name("Where")
        container.add_node("Where", [is_missing, fill, values], [operator.outputs[0].full_name], name=name)
        return None

    return in_float64


def function_shape(calculate: Callable) -> Callable:
    def shape(operator: Any) -> None:
        step = operator.raw_operator
        func, step.func = step.func, None
        try:
            calculate(operator)
        finally:
            step.func = func

    return shape


def function(convert: Callable) -> Callable:
    """Return a converter for FunctionTransformer that also knows functions of NumPy."""

    def known(scope: Any, operator: Any, container: Any) -> None:
        step = operator.raw_operator
        if step.func is None:
            return convert(scope, operator, container)
        if step.func not in UFUNCS or step.kw_args:
            raise NotImplementedError("its function is Python code")
        is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
        value = concatenate_variables(scope, operator.inputs, container)
        nodes = UFUNCS[step.func]
        for position, (kind, constant) in enumerate(nodes):
            inputs = [value]
            if constant is not None:
                inputs.append(scope.get_unique_variable_name("constant"))
                number_of(container, inputs[1], constant, is_double)
            last = position == len(nodes) - 1
            value = operator.outputs[0].full_name if last else scope.get_unique_variable_name("value")
            container.add_node(kind, inputs, [value], name=scope.get_unique_operator_name(kind))
        return None

    return known


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """Until the block ends, skl2onnx uses the converters of this file instead of its own."""
    with contextlib.ExitStack() as stack:
        for module in (decision_tree, gradient_boosting, isolation_forest, random_forest):
            stack.enter_context(mock.patch.object(module, "add_tree_to_attribute_pairs", with_nulls))
        converters = {}
        for name, change in ((IMPUTER, imputer), (FUNCTION, function)):
            own = _registration.get_converter(name)
            converters[name] = _registration.RegisteredConverter(change(own), own.get_allowed_options())
        shapes = {FUNCTION: function_shape(_registration.get_shape_calculator(FUNCTION))}
        stack.enter_context(mock.patch.dict(_registration._converter_pool, converters))
        stack.enter_context(mock.patch.dict(_registration._shape_calculator_pool, shapes))
        yield


def register_boosters() -> None:
    """XGBoost, if the model uses it: the import takes long, and it need not be installed."""
    if "xgboost" not in sys.modules:
        return
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    for name in ("XGBClassifier", "XGBRFClassifier"):
        shape = calculate_linear_classifier_output_shapes
        update_registered_converter(getattr(xgboost, name), f"XGBoost{name}", shape, convert_xgboost, options=options)
    for name in ("XGBRegressor", "XGBRFRegressor"):
        shape = calculate_linear_regressor_output_shapes
        update_registered_converter(getattr(xgboost, name), f"XGBoost{name}", shape, convert_xgboost)


def append(onnx: Any, func: Any) -> None:
    """Apply a function of NumPy to the output of a graph, such as the inverse of the target's logarithm."""
    (output,) = onnx.graph.output
    kind = output.type.tensor_type.elem_type
    value = output.name
    for position, (operator, constant) in enumerate(UFUNCS[func]):
        inputs = [value]
        if constant is not None:
            inputs.append(f"constant_{position}")
            onnx.graph.initializer.append(helper.make_tensor(inputs[1], kind, [1], [constant]))
        value = f"inverse_{position}"
        onnx.graph.node.append(helper.make_node(operator, inputs, [value], name=value))
    output.name = value

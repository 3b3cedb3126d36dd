"""Write large forests so that ONNX Runtime loads them in a third of the memory, and model.onnx takes a third, too.

skl2onnx writes ten values for each node, and ONNX Runtime copies them all several times when it loads the file: 500
bytes for each node at its peak (https://github.com/microsoft/onnxruntime/issues/7067). TreeEnsemble, since version 5 of
ai.onnx.ml, has half the nodes, because leaves are none, and no texts
(https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html).
"""

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

LARGE = 100_000  # nodes, from which on the memory matters
TOGETHER = 250_000  # nodes of the trees that are loaded at once
SAME = {"TreeEnsembleRegressor", "Scaler", "Imputer", "OneHotEncoder", "ArrayFeatureExtractor"}  # in all versions
MODES = {b"BRANCH_LEQ": 0, b"BRANCH_LT": 1}
NEEDED = {
    *("n_targets", "nodes_falsenodeids", "nodes_featureids", "nodes_modes", "nodes_nodeids", "nodes_treeids"),
    *("nodes_truenodeids", "nodes_values", "target_ids", "target_nodeids", "target_treeids", "target_weights"),
}
OTHERS = {"nodes_hitrates", "nodes_missing_value_tracks_true", "post_transform"}


def shrink(onnx: ModelProto) -> None:
    """Write the forest of a regressor with one target as sums of TreeEnsembles, if it is large."""
    special = [node for node in onnx.graph.node if node.domain == "ai.onnx.ml"]
    if {node.op_type for node in special} - SAME:
        return
    nodes = [smaller(node) if node.op_type == "TreeEnsembleRegressor" else [node] for node in onnx.graph.node]
    if special and all(nodes):
        del onnx.graph.node[:]
        onnx.graph.node.extend(node for some in nodes for node in some)
        next(opset for opset in onnx.opset_import if opset.domain == "ai.onnx.ml").version = 5


def smaller(node: NodeProto) -> list[NodeProto]:
    """Return the nodes that stand for a TreeEnsembleRegressor; none if it is small or of another kind."""
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if not NEEDED <= values.keys() <= NEEDED | OTHERS or len(values["nodes_treeids"]) < LARGE:
        return []
    modes = values.pop("nodes_modes")
    if values["n_targets"] != 1 or values.get("post_transform") != b"NONE" or set(modes) - {b"LEAF", *MODES}:
        return []
    get = {name: np.array(some) for name, some in values.items() if isinstance(some, list)}
    leaf = np.array([mode == b"LEAF" for mode in modes])
    mode_of = np.array([MODES.get(mode, 0) for mode in modes], np.uint8)
    tree, place = get["nodes_treeids"], np.arange(len(leaf))
    starts = np.flatnonzero(np.diff(tree, prepend=-1))
    first = np.repeat(starts, np.diff(starts, append=len(tree)))  # the root of each node's tree
    # the rest takes this for granted: trees one after the other, nodes counted from their root, a value for each leaf
    if leaf[starts].any() or not (
        np.array_equal(get["nodes_nodeids"], place - first)
        and np.array_equal(get["target_treeids"], tree[leaf])
        and np.array_equal(get["target_nodeids"], (place - first)[leaf])
    ):
        return []
    inner_number, leaf_number = np.cumsum(~leaf) - 1, np.cumsum(leaf) - 1
    missing = get.get("nodes_missing_value_tracks_true", np.zeros(len(leaf), int))
    parts: list[NodeProto] = []
    for some in np.array_split(starts, -(-len(leaf) // TOGETHER)):
        inside = slice(some[0], np.append(starts, len(leaf))[np.searchsorted(starts, some[-1]) + 1])
        inner, count = place[inside][~leaf[inside]], np.count_nonzero(leaf[inside])
        inners, leaves = inner_number[some[0]], leaf_number[some[0]] + 1  # the first ones: a root is no leaf
        weights = get["target_weights"][leaves : leaves + count]
        attributes = {
            "n_targets": 1,
            "aggregate_function": 1,  # the sum
            "tree_roots": inner_number[some] - inners,
            "nodes_featureids": get["nodes_featureids"][inner],
            "nodes_modes": numpy_helper.from_array(mode_of[inner], "nodes_modes"),
            "nodes_splits": numpy_helper.from_array(get["nodes_values"][inner].astype(np.float32), "nodes_splits"),
            "leaf_targetids": np.zeros(count, int),
            "leaf_weights": numpy_helper.from_array(weights.astype(np.float32), "leaf_weights"),
        }
        for side in ("true", "false"):
            child = first[inner] + get[f"nodes_{side}nodeids"][inner]
            attributes[f"nodes_{side}leafs"] = leaf[child].astype(int)
            attributes[f"nodes_{side}nodeids"] = np.where(
                leaf[child], leaf_number[child] - leaves, inner_number[child] - inners
            )
        if missing[inner].any():
            attributes["nodes_missing_value_tracks_true"] = missing[inner]
        name = f"{node.name}_{len(parts)}"
        plain = {key: one.tolist() if isinstance(one, np.ndarray) else one for key, one in attributes.items()}
        parts.append(helper.make_node("TreeEnsemble", node.input, [name], name=name, domain="ai.onnx.ml", **plain))
    return [*parts, helper.make_node("Sum", [part.output[0] for part in parts], node.output, name=node.name)]

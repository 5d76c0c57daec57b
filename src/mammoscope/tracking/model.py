"""An exported graph as a model of MLflow's, with its signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from onnx import ModelProto, ValueInfoProto

__all__ = ["log_model", "signature_of"]

_LOADED = ("numpy", "onnxruntime")


def log_model(uri: str, run_id: str, run: Path) -> None:
    """Log the exported graph with its signature, as MLflow's own kind of model."""
    import mlflow
    import onnx

    graph = onnx.load(str(run / "model.onnx"))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(run_id=run_id):
            mlflow.onnx.log_model(
                graph,
                name="model",
                signature=signature_of(graph),
                # Named, as MLflow would start another process to find them out.
                pip_requirements=list(_LOADED),
                save_as_external_data=False,
            )
    finally:
        mlflow.set_tracking_uri(before)


def signature_of(model: ModelProto) -> ModelSignature:
    """Return what a graph takes and gives in MLflow's words; -1 is a side of any length."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx import helper

    def spec(value: ValueInfoProto) -> TensorSpec:
        kind = value.type.tensor_type
        sides = [side.dim_value or -1 for side in kind.shape.dim]
        return TensorSpec(helper.tensor_dtype_to_np_dtype(kind.elem_type), sides, value.name)

    taken, given = model.graph.input, model.graph.output
    return ModelSignature(Schema([spec(v) for v in taken]), Schema([spec(v) for v in given]))

"""What computes an exported graph."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mammoscope.config.loading import Frozen

__all__ = ["EngineName", "ExportConfig", "Precision"]

EngineName = Literal["onnxruntime", "openvino"]
Precision = Literal["float32", "bfloat16"]


class ExportConfig(Frozen):
    """What computes an exported graph, when it is evaluated and ever after."""

    engine: EngineName = Field(
        default="onnxruntime",
        description="openvino is an extra, often quicker on processors of Intel and AMD.",
    )
    precision: Precision = Field(
        default="float32",
        description="Number format of convolutions and products; bfloat16 is openvino's, needs a "
        "processor that computes in it, and gives other scores, which are those that are "
        "evaluated.",
    )

    @model_validator(mode="after")
    def _computes_in_it(self) -> ExportConfig:
        if self.precision != "float32" and self.engine != "openvino":
            raise ValueError(
                f"precision={self.precision} is of engine=openvino; the engine is {self.engine}"
            )
        return self

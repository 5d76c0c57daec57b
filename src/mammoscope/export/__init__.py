"""From trained weights to what is deployed: graph, predictions made with it, bundle.

The graph is exported at the end of training and every number of the report comes from
it, so that what is evaluated is what is deployed (``model.onnx`` has one hash in both).
"""

from mammoscope.export.deployed import export_bundle
from mammoscope.export.finish import finish_run, rescore_run
from mammoscope.export.graph import PARITY_TOLERANCE, check_difference, export_graph

__all__ = [
    "PARITY_TOLERANCE",
    "check_difference",
    "export_bundle",
    "export_graph",
    "finish_run",
    "rescore_run",
]

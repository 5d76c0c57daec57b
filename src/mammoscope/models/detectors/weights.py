"""Weights for a detector to start from: a detector's own, or those of its backbone."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mammoscope.errors import RunError
from mammoscope.models.detectors.contract import Detector

__all__ = ["load_detector_weights"]


def load_detector_weights(detector: Detector, path: Path) -> list[str]:
    """Load a local safetensors file into a detector, or into its backbone.

    The file is the ``weights.safetensors`` of a run with the same detector, holds the keys of the
    library's own detector, or those of the backbone as timm saves them. Layers that tell other
    kinds apart begin anew. A first layer of three input channels is folded to one by summing.

    Returns:
        A sentence that a user should read where layers begin anew.

    Raises:
        RunError: If the file cannot be read, or neither the detector nor its backbone is in it.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"weights {path} cannot be read as safetensors: {error}") from error
    for part in _parts(detector):
        own = {k: v for k, v in part.state_dict().items() if not k.endswith("num_batches_tracked")}
        folded = {key: _folded(weights[key], own[key]) for key in own if key in weights}
        fitting = {key: value for key, value in folded.items() if value.shape == own[key].shape}
        anew = [key for key in own if key not in fitting]
        # What tells kinds apart is a few layers; where most is missing it is another network.
        if len(fitting) >= 0.8 * len(own):
            part.load_state_dict(fitting, strict=False)
            what = "" if part is detector else " its backbone's are taken, and"
            if not anew and part is detector:
                return []
            listed = ", ".join(anew[:4]) or "all behind it"
            return [f"of weights {path}{what} these begin anew: {listed}"]
    missing = [key for key in detector.state_dict() if key not in weights]
    raise RunError(
        f"weights {path} do not fit the detector {detector.config.name} nor its backbone: "
        f"{len(missing)} missing ({', '.join(missing[:4])}), "
        f"the file holds {', '.join(list(weights)[:4])}"
    )


def _parts(detector: Detector) -> list[nn.Module]:
    """Return what a file may hold: the detector, the library's, the backbone's body."""
    found: list[nn.Module] = [detector]
    library = getattr(detector, "net", None)
    if isinstance(library, nn.Module):
        found.append(library)
    backbone = getattr(library or detector, "backbone", None)
    body = getattr(backbone, "body", None)
    if isinstance(body, nn.Module):
        found.append(body)
    return found


def _folded(value: Tensor, own: Tensor) -> Tensor:
    if value.ndim == 4 and own.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1:
        return value.sum(dim=1, keepdim=True)
    return value

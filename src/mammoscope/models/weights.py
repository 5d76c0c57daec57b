"""Weights to start from: ImageNet's by way of timm's hub, or a local safetensors file."""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mammoscope.errors import RunError
from mammoscope.models.backbones import TimmBackbone
from mammoscope.models.two_resolution import TwoResolutionBackbone

__all__ = [
    "bounded_hub",
    "holds_head",
    "hub_fault",
    "load_backbone_weights",
    "load_head",
    "load_judge",
    "load_segmenter_weights",
]

# Seconds that the hub has to give a first sign of life, and then each packet to arrive.
_PATIENCE_S = 5.0
# Layers that turn features into classes: another task's, and none of ours has them.
_HEADS = ("fc.", "classifier.", "head.", "head_dist.")
# Where the runs of image models, and of breast and exam models, keep their backbone.
_JOINED = "classifier."
_RUNS = ("backbone.", f"{_JOINED}backbone.")
_COARSE = "coarse."
_PREFIXES = [prefix for run in _RUNS for prefix in (f"{run}body.", run)]


def hub_fault(patience_s: float = _PATIENCE_S) -> str | None:
    """Say why the hub does not answer; ``None`` where it does.

    The hub's client would retry for most of a minute before it says so, and looking up a
    name has no time limit of its own, hence the thread.

    Args:
        patience_s: Seconds to wait at most.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            # Like the hub's client, this goes through the proxy that the environment names.
            opener = urllib.request.build_opener()
            opener.open(constants.ENDPOINT, timeout=patience_s).close()
        except urllib.error.HTTPError:
            answers.put(None)  # It answers; what it answers is for its client to judge.
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            # Certificates are the client's own affair too: it may know of others.
            answers.put(None if isinstance(reason, ssl.SSLError) else str(reason))
        else:
            answers.put(None)

    threading.Thread(target=ask, name="hub", daemon=True).start()
    try:
        fault = answers.get(timeout=patience_s)
    except queue.Empty:
        fault = f"no answer within {patience_s:g} s"
    return None if fault is None else f"{constants.ENDPOINT}: {fault}"


@contextmanager
def bounded_hub(*, offline: bool) -> Iterator[None]:
    """Keep the hub's client from hanging.

    Args:
        offline: Look only into the local cache.
    """
    before, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = offline
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(patience)


def load_backbone_weights(backbone: nn.Module, path: Path) -> None:
    """Load a local safetensors file into a backbone; for heads see :func:`load_head`.

    The file holds a backbone's own keys, as timm's do, or is the ``weights.safetensors``
    of a run with the same backbone. Where there are two networks, a backbone's own keys go to the
    one that sees the shrunk image. A first layer of three input channels is folded to
    one by summing, which gives a grey image the response that the same image in three
    equal channels had.

    Raises:
        RunError: If the file cannot be read, or its keys or shapes do not fit.
    """
    weights = _without_prefix(_read(path))
    target = backbone
    if isinstance(target, TwoResolutionBackbone) and not any(
        k.startswith(_COARSE) for k in weights
    ):
        target = target.coarse
    if isinstance(target, TimmBackbone):
        target = target.body
    own = target.state_dict()
    folded = {key: _folded(value, own[key]) for key, value in weights.items() if key in own}
    faults = {
        "missing": [k for k in own if k not in folded and not k.endswith("num_batches_tracked")],
        "unknown": [k for k in weights if k not in own and not k.startswith(_HEADS)],
        "of another shape": [k for k, v in folded.items() if v.shape != own[k].shape],
    }
    if any(faults.values()):
        listed = "; ".join(
            f"{len(keys)} {fault} ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})"
            for fault, keys in faults.items()
            if keys
        )
        raise RunError(f"weights {path} do not fit the backbone: {listed}")
    target.load_state_dict(folded, strict=False)


def load_head(classifier: nn.Module, path: Path) -> list[str]:
    """Load what lies behind the backbone, where the file is of a run with the same layers there.

    Returns:
        A sentence that a user should read where the run's layers are others.

    Raises:
        RunError: If the file cannot be read, or a layer is of another shape.
    """
    theirs, own = _head(path), _but(classifier.state_dict(), "backbone.")
    if theirs is None:
        return []
    if theirs.keys() != own.keys():
        listed = ", ".join(sorted(theirs.keys() ^ own.keys())[:4])
        return [
            f"of weights {path} the backbone alone is taken: the layers behind it are others "
            f"({listed}) and begin anew"
        ]
    _fit(path, theirs, own)
    classifier.load_state_dict(theirs, strict=False)
    return []


def holds_head(classifier: nn.Module, path: Path) -> bool:
    """Say whether :func:`load_head` takes what lies behind the backbone from a file."""
    theirs = _head(path)
    return theirs is not None and theirs.keys() == _but(classifier.state_dict(), "backbone.").keys()


def load_judge(model: nn.Module, path: Path) -> list[str]:
    """Load how a breast or exam model judges views together, where the file is of such a run.

    A breast model's judgement of breasts begins an exam model's, and the other way round.

    Returns:
        A sentence that a user should read where a part of either has no counterpart.

    Raises:
        RunError: If the file cannot be read, or a layer is of another shape.
    """
    weights, own = _read(path), model.state_dict()
    if not _is_joined(weights) or _behind(weights) != _behind(own):
        # Other layers before it begin anew, as load_head says, and so does what judges by them.
        return []
    theirs, own = _but(weights, _JOINED), _but(own, _JOINED)
    found = {key: value for key, value in theirs.items() if key in own}
    _fit(path, found, own)
    model.load_state_dict(found, strict=False)
    notes = {"begins anew": own.keys() - theirs.keys(), "is not taken": theirs.keys() - own.keys()}
    return [
        f"weights {path}: what judges the {part} {fate}"
        for fate, keys in notes.items()
        for part in sorted({key.partition(".")[0] for key in keys})
    ]


def load_segmenter_weights(segmenter: nn.Module, encoder: nn.Module, path: Path) -> list[str]:
    """Load a local safetensors file into a segmenter, all of it or its encoder.

    The file is the ``weights.safetensors`` of a segmentation run with the same network, or holds
    the keys of its encoder, which may be a backbone of timm as ``tu-NAME`` has it. A first layer
    of three input channels is folded to one.

    Returns:
        A sentence that a user should read where the encoder alone is taken.

    Raises:
        RunError: If the file cannot be read, or keys are missing or of another shape.
    """
    weights = _read(path)
    whole = any(key.startswith("body.") for key in weights)
    target = segmenter if whole else encoder
    own = target.state_dict()
    if not whole:
        weights = _without_prefix(weights)
        if any(key.startswith("model.") for key in own):
            # timm's networks lie one level deeper in these encoders.
            weights = {f"model.{key.removeprefix('model.')}": v for key, v in weights.items()}
    found = {key: _folded(value, own[key]) for key, value in weights.items() if key in own}
    lacking = [key for key in own if key not in found and not key.endswith("num_batches_tracked")]
    if lacking:
        listed = ", ".join(lacking[:4])
        raise RunError(f"weights {path} do not fit: {len(lacking)} keys are missing ({listed})")
    _fit(path, found, own)
    target.load_state_dict(found, strict=False)
    return [] if whole else [f"of weights {path} the encoder alone is taken; the decoder is new"]


def _is_joined(weights: Mapping[str, Tensor]) -> bool:
    """Say whether weights are of a breast or exam model's run."""
    return any(key.startswith(f"{_JOINED}backbone.") for key in weights)


def _head(path: Path) -> dict[str, Tensor] | None:
    """Return what a run's file holds behind the backbone; ``None`` if the file is of no run."""
    weights = _read(path)
    if not any(key.startswith(_RUNS) for key in weights):
        return None
    prefix = _JOINED if _is_joined(weights) else ""
    theirs = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return _but(theirs, "backbone.")


def _behind(weights: Mapping[str, Tensor]) -> set[str]:
    """Return the layers behind the backbone of a breast or exam model's classifier."""
    every = {key for key in weights if key.startswith(_JOINED)}
    return {key for key in every if not key.startswith(f"{_JOINED}backbone.")}


def _but(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if not key.startswith(prefix)}


def _fit(path: Path, theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    wrong = [key for key, value in theirs.items() if value.shape != own[key].shape]
    if wrong:
        raise RunError(f"weights {path} do not fit: {', '.join(wrong)} of another shape")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"weights {path} cannot be read as safetensors: {error}") from error


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the backbone of a run's file, whose heads are beside it; others as they are."""
    for prefix in _PREFIXES:
        found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        if found:
            return found
    return weights


def _folded(value: Tensor, own: Tensor) -> Tensor:
    if value.ndim == 4 and own.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1:
        return value.sum(dim=1, keepdim=True)
    return value

"""Where a training is written down as it goes, for people who compare many."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mammoscope.config.loading import Frozen

__all__ = ["TRACKING_URI", "TrackingConfig"]

#: Where MLflow looks by itself: a file in the folder where the command was given.
TRACKING_URI = "sqlite:///mlflow.db"
_SCHEMES = ("sqlite", "http", "https")


class TrackingConfig(Frozen):
    """MLflow: what was set, how each epoch went, and the model, in one place for many runs."""

    enabled: bool = Field(default=False, description="Track; `train --track` switches it on.")
    uri: str = Field(
        default=TRACKING_URI,
        description="A SQLite file (`sqlite:///PATH`), or a server (`http://` or `https://`).",
    )
    experiment: str = Field(
        default="mammoscope", min_length=1, description="Name under which runs are gathered."
    )
    name: str | None = Field(default=None, description="Name of the run; its folder's by default.")

    @field_validator("uri")
    @classmethod
    def _known(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"a tracking URI begins with {', '.join(f'{s}://' for s in _SCHEMES)}")
        if parts.username is not None or parts.password is not None:
            # run.json keeps the configuration.
            raise ValueError(
                "a tracking URI holds no name or password: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD in the environment"
            )
        return uri

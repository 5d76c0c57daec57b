"""What a service accepts and keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LOOPBACK_NAMES", "ServiceSettings"]

#: What a browser on this machine may write in the Host header.
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


class ServiceSettings(BaseModel):
    """Bounds of a service; each is a limit that a request can run into and is told of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_upload_bytes: _Count = Field(
        default=2 << 30, description="Largest request body; a longer one is answered 413."
    )
    max_files: _Count = Field(
        default=64, description="Most files of one exam, members of zips counted."
    )
    max_unzipped_bytes: _Count = Field(
        default=4 << 30, description="Most bytes that the zips of one upload may hold, unpacked."
    )
    max_table_bytes: _Count = Field(default=16 << 20, description="Largest CSV table.")
    max_exams_in_flight: _Count = Field(
        default=4, description="Exams received or scored at one time; one more is answered 503."
    )
    idle_timeout_s: _Seconds = Field(
        default=60.0, description="An upload of which nothing arrives for so long is dropped."
    )
    kept_exams: _Count = Field(
        default=32, description="Results kept for GET; the oldest is removed for a newer one."
    )
    health_interval_s: _Seconds = Field(
        default=30.0, description="How long a passed health check stands for the next ones."
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder of results, this service's alone; by default gone at shutdown.",
    )
    allowed_hosts: tuple[str, ...] | None = Field(
        default=LOOPBACK_NAMES,
        description="Names accepted in the Host header, against DNS rebinding; null takes any.",
    )

"""The application, made of parts that are handed in."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from mammoscope import __version__
from mammoscope.inference import Predictor
from mammoscope.results import RESEARCH_NOTICE
from mammoscope.service.edge import Edge
from mammoscope.service.problems import install_handlers
from mammoscope.service.routes import WEB, router
from mammoscope.service.scoring import ScoringDesk
from mammoscope.service.settings import ServiceSettings
from mammoscope.service.telemetry import Metrics

__all__ = ["create_app"]


def create_app(predictor: Predictor, settings: ServiceSettings | None = None) -> FastAPI:
    """Return the ASGI application.

    Args:
        predictor: Scores exams; loaded already, so a bad bundle fails before a port opens.
        settings: The bounds.
    """
    bounds = settings or ServiceSettings()
    metrics = Metrics(predictor.model_info)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        folder = (
            tempfile.TemporaryDirectory(prefix="mammoscope-")
            if bounds.data_dir is None
            else nullcontext(str(bounds.data_dir))
        )
        with folder as name:
            desk = ScoringDesk(predictor, bounds, metrics, Path(name))
            app.state.desk = desk
            metrics.healthy((await to_thread.run_sync(desk.health)).ok)
            yield

    app = FastAPI(
        title="mammoscope",
        version=__version__,
        description=RESEARCH_NOTICE,
        lifespan=lifespan,
        # Their pages load scripts from other hosts, which our policy forbids.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_handlers(app)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=WEB), name="static")
    app.add_middleware(Edge, metrics=metrics, allowed_hosts=bounds.allowed_hosts)
    return app

"""What is the whole application: its paths, its page, and the gate before them?"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from realm.serving import problems
from realm.serving.description import DESCRIPTION, TAGS, complete, no_parameters
from realm.serving.description import problems as described
from realm.serving.document_routes import document_routes
from realm.serving.gate import Access, Gate
from realm.serving.metrics import CONTENT_TYPE
from realm.serving.problems import ProblemError, busy
from realm.serving.question_routes import question_routes
from realm.serving.responses import Health, Info
from realm.serving.results import Json
from realm.serving.service import Service

PAGE = Path(__file__).parent / "static"


class App(FastAPI):
    """The application, with the description of its errors."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema


def create_app(service: Service, access: Access, *, page: Path = PAGE) -> App:
    """Everything that the service answers; `page` is the folder with index.html."""
    app = App(
        title="REALM", version=version("realm-lm"), description=DESCRIPTION, openapi_tags=TAGS,
        # Their pages would load scripts from elsewhere.
        docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.include_router(question_routes(service))
    app.include_router(document_routes(service))
    app.include_router(_service_routes(service))
    _add_page(app, page)
    problems.add_to(app)
    app.add_middleware(Gate, service=service, access=access)
    return app


def _service_routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"], dependencies=[Depends(no_parameters)])
    common = described(408, 413, 421, 422)

    @router.get(
        "/v1/info", operation_id="info", summary="What is served",
        response_model=Info, responses={**common, **described(401, 503)},
    )  # fmt: skip
    def info() -> Json:
        """Names, versions and sizes, what the run can do, and questions to try."""
        served, corpus = service.served, service.corpus
        return {
            "name": served.name,
            "model": served.versions.model,
            "snapshot": served.versions.snapshot,
            "snapshot_age_seconds": service.snapshot_age_seconds,
            "corpus_version": corpus.version,
            "num_documents": corpus.num_documents,
            "num_passages": corpus.num_passages,
            "can": service.can,
            "examples": list(served.examples),
        }

    @router.get(
        "/healthz", operation_id="healthz", summary="Whether the service lives",
        response_model=Health, responses=common,
    )  # fmt: skip
    async def healthz() -> Json:
        """Needs no token."""
        return {"status": "ok"}

    @router.get(
        "/readyz", operation_id="readyz", summary="Whether the service takes requests",
        response_model=Health, responses={**common, **described(503)},
    )  # fmt: skip
    async def readyz() -> Json:
        """Needs no token; 503 from the moment that the service is told to stop."""
        if service.is_draining:
            raise busy("the service is shutting down")
        return {"status": "ok"}

    _add_metrics(router, service)
    return router


def _add_metrics(router: APIRouter, service: Service) -> None:
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}

    @router.get(
        "/metrics", operation_id="metrics", summary="Counts for Prometheus",
        response_class=Response, responses={**described(401, 408, 413, 421, 422), 200: text},
    )  # fmt: skip
    def metrics() -> Response:
        """Latency, batch sizes, queues, the snapshot's age, documents, abstentions, edits."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI, page: Path) -> None:
    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        file = page / "index.html"
        if not file.is_file():
            raise ProblemError(404, "this installation has no page: use the paths under /v1")
        return FileResponse(file)

    if page.is_dir():
        app.mount("/static", StaticFiles(directory=page), name="static")

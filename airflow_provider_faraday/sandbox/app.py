"""The sandbox's HTTP: Faraday's endpoints under ``/v1``, the control surface under ``/sandbox``."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from airflow_provider_faraday.sandbox.account import Document
from airflow_provider_faraday.sandbox.account_file import DatasetSpec, canonical_uuid
from airflow_provider_faraday.sandbox.control import Control, DatasetChange, Settings
from airflow_provider_faraday.sandbox.errors import FaradayError, invalid
from airflow_provider_faraday.sandbox.faults import Fault
from airflow_provider_faraday.sandbox.gate import Gate

MAX_IDS = 100
DEFAULT_PAGE = 100

ABOUT = """\
This is the sandbox of airflow-provider-faraday: a local stand-in for the Faraday API, with made-up data.

Faraday's endpoints are under /v1 and want the header 'Authorization: Bearer <API key>'.
The control surface is under /sandbox and wants no key; bodies are JSON:

  GET    /sandbox/datasets          every dataset in short, and which statuses come next
  POST   /sandbox/datasets          add one, described as in an account file
  PATCH  /sandbox/datasets/{id}     set any field; also archived, config_changed, rebuild, unset, sandbox
  DELETE /sandbox/datasets/{id}     remove it
  GET    /sandbox/history           every change of status so far
  GET    /sandbox/faults            faults still to come
  POST   /sandbox/faults            make the next answers go wrong: times, path, method, status, headers,
                                    body, delay, broken, taken
  DELETE /sandbox/faults            no more faults
  GET    /sandbox/requests          requests so far
  DELETE /sandbox/requests          empty that log
  PUT    /sandbox/api_key           take another key; the old one is answered EXPIRED_API_KEY
  GET    /sandbox/settings          page_size, clock_offset, speed, now
  PATCH  /sandbox/settings          set page_size or clock_offset
  POST   /sandbox/reset             start over
"""


class NewKey(BaseModel):
    """A key to take from now on."""

    model_config = ConfigDict(extra="forbid")

    api_key: str


def create_app(control: Control) -> ASGIApp:
    """The whole application of one sandbox."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.include_router(_faraday(control), prefix="/v1")
    app.include_router(_control_surface(control), prefix="/sandbox")

    @app.get("/")
    async def about() -> PlainTextResponse:
        return PlainTextResponse(ABOUT)

    @app.exception_handler(FaradayError)
    async def faraday_error(request: Request, error: FaradayError) -> JSONResponse:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        notes = {
            404: f"There is nothing at {request.url.path}; the API is under /v1.",
            405: f"{request.method} is not possible at {request.url.path}.",
        }
        note = notes.get(error.status_code, f"{error.detail}.")
        body = FaradayError(error.status_code, note).body()
        return JSONResponse(body, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        problems: list[Document] = [
            {
                "path": ".".join(str(part) for part in problem["loc"]),
                "message": problem["msg"],
                "context": {"errorType": problem["type"]},
            }
            for problem in error.errors()
        ]
        note = "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)
        refused = FaradayError(400, note, code="VALIDATION_FAILED", validation_errors=problems)
        return JSONResponse(refused.body(), 400)

    return Gate(app, control)


def _faraday(control: Control) -> APIRouter:
    api = APIRouter()

    @api.get("/accounts/current")
    async def current_account() -> JSONResponse:
        return JSONResponse({**control.account.account, "api_key": control.api_key})

    @api.get("/connections")
    async def connections(request: Request) -> JSONResponse:
        return _listed(request, control.account.connections(), control.page_size)

    @api.get("/connections/{connection_id}")
    async def connection(connection_id: str) -> JSONResponse:
        return JSONResponse(control.account.connection(_uuid("connection_id", connection_id)))

    @api.get("/connections/{connection_id}/datasets")
    async def connection_datasets(request: Request, connection_id: str) -> JSONResponse:
        datasets = control.account.connection_datasets(_uuid("connection_id", connection_id))
        return _listed(request, datasets, control.page_size)

    @api.get("/scopes")
    async def scopes(request: Request) -> JSONResponse:
        return _listed(request, control.account.scopes(), control.page_size)

    @api.get("/scopes/{scope_id}")
    async def scope(scope_id: str) -> JSONResponse:
        return JSONResponse(control.account.scope(_uuid("scope_id", scope_id)))

    @api.get("/scopes/{scope_id}/datasets")
    async def scope_datasets(request: Request, scope_id: str) -> JSONResponse:
        datasets = control.account.scope_datasets(_uuid("scope_id", scope_id))
        return _listed(request, datasets, control.page_size)

    @api.get("/datasets")
    async def datasets(request: Request) -> JSONResponse:
        return _listed(request, control.account.datasets(), control.page_size)

    @api.get("/datasets/{dataset_id}")
    async def dataset(dataset_id: str) -> JSONResponse:
        return JSONResponse(control.account.dataset(_uuid("dataset_id", dataset_id)))

    @api.post("/datasets/{dataset_id}/force_update")
    async def force_update(dataset_id: str) -> Response:
        control.account.force_update(_uuid("dataset_id", dataset_id))
        return Response(status_code=204)

    @api.get("/datasets/{dataset_id}/logs/ingress")
    async def ingress_logs(request: Request, dataset_id: str) -> JSONResponse:
        logs = control.account.ingress_logs(_uuid("dataset_id", dataset_id))
        return _paged(request, logs, control.page_size or DEFAULT_PAGE)

    @api.get("/graph")
    async def graph(request: Request) -> JSONResponse:
        return JSONResponse(control.account.graph())

    return api


def _control_surface(control: Control) -> APIRouter:
    surface = APIRouter()

    @surface.get("/datasets")
    async def datasets() -> JSONResponse:
        return JSONResponse(control.datasets())

    @surface.post("/datasets")
    async def add_dataset(spec: DatasetSpec) -> JSONResponse:
        return JSONResponse(control.account.add(spec), 201)

    @surface.patch("/datasets/{dataset_id}")
    async def change_dataset(dataset_id: str, change: DatasetChange) -> JSONResponse:
        return JSONResponse(control.set_dataset(_uuid("dataset_id", dataset_id), **change.model_dump()))

    @surface.delete("/datasets/{dataset_id}")
    async def remove_dataset(dataset_id: str) -> Response:
        control.remove_dataset(_uuid("dataset_id", dataset_id))
        return Response(status_code=204)

    @surface.get("/history")
    async def history() -> JSONResponse:
        return JSONResponse(control.history())

    @surface.get("/faults")
    async def faults() -> JSONResponse:
        return JSONResponse(control.faults.pending())

    @surface.post("/faults")
    async def add_fault(fault: Fault) -> JSONResponse:
        control.faults.add(fault)
        return JSONResponse(control.faults.pending(), 201)

    @surface.delete("/faults")
    async def clear_faults() -> Response:
        control.clear_faults()
        return Response(status_code=204)

    @surface.get("/requests")
    async def requests() -> JSONResponse:
        return JSONResponse(control.requests())

    @surface.delete("/requests")
    async def clear_requests() -> Response:
        control.clear_requests()
        return Response(status_code=204)

    @surface.put("/api_key")
    async def rotate_key(new: NewKey) -> Response:
        control.rotate_key(new.api_key)
        return Response(status_code=204)

    @surface.get("/settings")
    async def settings() -> JSONResponse:
        return JSONResponse(control.settings())

    @surface.patch("/settings")
    async def change_settings(changes: Settings) -> JSONResponse:
        control.apply(changes)
        return JSONResponse(control.settings())

    @surface.post("/reset")
    async def reset() -> Response:
        control.reset()
        return Response(status_code=204)

    return surface


def _uuid(path: str, value: str) -> str:
    try:
        return canonical_uuid(value)
    except ValueError as error:
        raise invalid(path, str(error)) from error


def _listed(request: Request, resources: Sequence[Document], page_size: int | None) -> JSONResponse:
    """A list answer: narrowed to ``?ids=``, and cut into pages where the sandbox was told to."""
    asked = request.query_params.getlist("ids")
    if len(asked) > MAX_IDS:
        raise invalid(
            "ids", f"must hold at most {MAX_IDS} ids, and holds {len(asked)}", error_type="maxItems"
        )
    wanted = {_uuid(f"ids[{position}]", value) for position, value in enumerate(asked)}
    if asked:
        resources = [resource for resource in resources if resource["id"] in wanted]
    return JSONResponse(list(resources)) if page_size is None else _paged(request, resources, page_size)


def _paged(request: Request, resources: Sequence[Document], page_size: int) -> JSONResponse:
    limit = min(_number(request, "limit", page_size, least=1), page_size)
    offset = _number(request, "offset", 0, least=0)
    headers = {"X-Total-Count": str(len(resources))}
    if offset + limit < len(resources):
        following = request.url.include_query_params(limit=limit, offset=offset + limit)
        headers["Link"] = f'<{following}>; rel="next"'
    return JSONResponse(list(resources[offset : offset + limit]), headers=headers)


def _number(request: Request, name: str, default: int, *, least: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise invalid(name, f"must be a whole number of at least {least}", error_type="type")
    return int(text)

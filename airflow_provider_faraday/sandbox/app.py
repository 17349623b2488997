"""The sandbox's endpoints: the Faraday API under ``/v1``, the control API under ``/sandbox``."""

from __future__ import annotations

import gzip
import hmac
import re
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from airflow_provider_faraday.sandbox.account_file import RESOURCE_TYPES, Id
from airflow_provider_faraday.sandbox.control import Control, Settings
from airflow_provider_faraday.sandbox.downloads import target_file
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault
from airflow_provider_faraday.sandbox.middleware import SandboxMiddleware
from airflow_provider_faraday.sandbox.resources import Change, Document, http_date
from airflow_provider_faraday.sandbox.uploads import DIRECTORY_PATTERN, FILENAME_PATTERN
from airflow_provider_faraday.sandbox.webhooks import EndpointChange

Directory = Annotated[str, Path(pattern=DIRECTORY_PATTERN)]
Filename = Annotated[str, Path(pattern=FILENAME_PATTERN)]
MERGE_PATCH = ("application/merge-patch+json", "application/json+merge-patch")
LOG_PAGE_SIZE = 100
# FastAPI 0.115 takes the annotation `None` for a response body unless it is told that there is none.
NO_CONTENT: dict[str, Any] = {"status_code": 204, "response_model": None, "response_class": Response}


def paginated(
    request: Request,
    ids: Annotated[list[Id], Query(max_length=100)] = [],  # noqa: B006
    limit: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Callable[..., JSONResponse]:
    """Return a function that returns the requested ones of all items.

    Without a page size, ``limit`` and ``offset`` have no effect.
    """

    def respond(items: list[Document], default_page_size: int | None = None) -> JSONResponse:
        page_size = request.app.state.control.current.page_size or default_page_size
        if ids:
            items = [item for item in items if item.get("id") in ids]
        if page_size is None:
            return JSONResponse(items)
        page = min(limit or page_size, page_size)
        end = offset + page
        headers = {"X-Total-Count": str(len(items))}
        if end < len(items):
            url = request.url.include_query_params(limit=page, offset=end)
            headers["Link"] = f'<{url}>; rel="next"'
        return JSONResponse(items[offset:end], headers=headers)

    return respond


Respond = Annotated[Callable[..., JSONResponse], Depends(paginated)]


def create_app(control: Control) -> ASGIApp:
    """Return the ASGI application of a sandbox."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.control = control
    app.include_router(_faraday_api(control), prefix="/v1")
    app.include_router(_control_api(control), prefix="/sandbox")

    package = files("airflow_provider_faraday.sandbox")
    page = (package / "page.html").read_text(encoding="utf-8")
    about = (package / "about.txt").read_text(encoding="utf-8")
    page_headers = {"Content-Security-Policy": _content_security_policy(page)}

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers=page_headers)

    @app.get("/sandbox")
    async def show_about() -> PlainTextResponse:
        return PlainTextResponse(about)

    @app.get("/downloads/{target_id}.csv")
    def download(target_id: Id, signature: str, request: Request) -> Response:
        """Return a file that downloads are redirected to, as a bucket with signed URLs does."""
        if "authorization" in request.headers:
            return PlainTextResponse("Only one authorization is allowed: the signature or a header.", 400)
        if not hmac.compare_digest(signature, control.download_signature(target_id)):
            return PlainTextResponse("The signature is not valid.", 403)
        return _target_file(control, target_id)

    @app.exception_handler(FaradayError)
    async def faraday_error(request: Request, error: FaradayError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        note = f"{error.detail}: {request.method} {request.url.path}. The Faraday API is under /v1."
        return FaradayError(error.status_code, note).response(error.headers)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        # Not sent, because the client is gone. Only the request log shows this status.
        return Response(status_code=400)

    @app.exception_handler(ValidationError)
    @app.exception_handler(RequestValidationError)
    async def validation_error(
        request: Request, error: ValidationError | RequestValidationError
    ) -> JSONResponse:
        problems = [
            {
                "path": ".".join(str(part) for part in problem["loc"]),
                "message": problem["msg"].removeprefix("Value error, "),
                "context": {"errorType": problem["type"]},
            }
            for problem in error.errors()
        ]
        note = "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)
        return FaradayError(
            400, f"Invalid request: {note}.", code="VALIDATION_FAILED", validation_errors=problems
        ).response()

    return SandboxMiddleware(app, control)


def _content_security_policy(page: str) -> str:
    """Return a policy that allows the page what it contains, and requests to the sandbox, but nothing else.

    No other page can embed it, and so trick people into clicking its buttons.
    """
    hashes = {
        tag: b64encode(sha256(content.encode()).digest()).decode()
        for tag, content in re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)
    }
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _faraday_api(control: Control) -> APIRouter:
    api = APIRouter()
    api.get("/accounts/current")(control.account)
    api.get("/graph")(control.graph)
    api.post("/webhook_endpoints", status_code=201)(control.webhooks.create)
    api.get("/webhook_endpoints/{endpoint_id}")(control.webhooks.get)
    api.delete("/webhook_endpoints/{endpoint_id}", **NO_CONTENT)(control.webhooks.remove)

    @api.get("/uploads")
    async def list_uploads(respond: Respond) -> JSONResponse:
        return respond(control.uploads())

    @api.post("/uploads/{directory}/{filename}")
    async def upload(directory: Directory, filename: Filename, request: Request) -> Response:
        created_at = await control.receive_upload(directory, filename, request.stream())
        return _dated_response(200, created_at)

    @api.get("/uploads/{directory}/{filename}")
    async def get_upload(directory: Directory, filename: Filename) -> FileResponse:
        upload = control.files.get(directory, filename)
        return FileResponse(upload.file, media_type="application/octet-stream")

    @api.delete("/uploads/{directory}/{filename}", **NO_CONTENT)
    async def remove_upload(directory: Directory, filename: Filename) -> None:
        control.files.remove(directory, filename)

    @api.get("/webhook_endpoints")
    async def list_webhook_endpoints(respond: Respond) -> JSONResponse:
        return respond(control.webhooks.all())

    @api.patch("/webhook_endpoints/{endpoint_id}")
    async def change_webhook_endpoint(endpoint_id: Id, request: Request) -> Document:
        if request.headers.get("content-type") not in MERGE_PATCH:
            raise FaradayError(400, f"The content type must be {' or '.join(MERGE_PATCH)}.")
        change = EndpointChange.model_validate_json(await request.body())
        return control.webhooks.change(endpoint_id, change)

    @api.get("/targets/{target_id}/download.csv")
    def download_target(target_id: Id, request: Request) -> Response:
        response = _target_file(control, target_id)
        if not control.current.download_redirect:
            return response
        url = request.url.replace(
            port=control.download_port,
            path=f"/downloads/{target_id}.csv",
            query=f"signature={control.download_signature(target_id)}",
        )
        return RedirectResponse(url, 302)

    @api.get("/datasets/{dataset_id}/logs/ingress")
    async def list_ingress_logs(dataset_id: Id, respond: Respond) -> JSONResponse:
        return respond(control.ingress_logs(dataset_id), LOG_PAGE_SIZE)

    for resource_type in RESOURCE_TYPES:
        _add_resource_endpoints(api, control, resource_type)
    for container_type in ("connections", "scopes"):
        for resource_type in ("datasets", "targets"):
            _add_list_endpoint(api, control, container_type, resource_type)
    return api


def _target_file(control: Control, target_id: str) -> Response:
    target = control.resource("targets", target_id)
    if target.get("last_updated_output_at") is None:
        raise FaradayError(409, f"The target {target_id} has not been built yet.")
    content = target_file(target.get("count") or 0)
    if (target.get("options") or {}).get("gzip"):
        return Response(gzip.compress(content), media_type="application/gzip")
    return Response(content, media_type="text/csv")


def _dated_response(status: int, at: datetime) -> Response:
    """Return a response with the time of a change, before which no build that it causes can end."""
    return Response(status_code=status, headers={"Date": http_date(at)})


def _add_resource_endpoints(api: APIRouter, control: Control, resource_type: str) -> None:
    @api.get(f"/{resource_type}")
    async def list_resources(respond: Respond) -> JSONResponse:
        return respond(control.resources(resource_type))

    @api.get(f"/{resource_type}/{{resource_id}}")
    async def get_resource(resource_id: Id) -> JSONResponse:
        return JSONResponse(control.resource(resource_type, resource_id))

    @api.post(f"/{resource_type}/{{resource_id}}/force_update")
    async def force_update(resource_id: Id) -> Response:
        requested_at = control.now()
        control.force_update(resource_id, resource_type)
        return _dated_response(202, requested_at)


def _add_list_endpoint(api: APIRouter, control: Control, container_type: str, resource_type: str) -> None:
    @api.get(f"/{container_type}/{{container_id}}/{resource_type}")
    async def list_resources(container_id: Id, respond: Respond) -> JSONResponse:
        return respond(control.resources_of(container_type, container_id, resource_type))


def _control_api(control: Control) -> APIRouter:
    api = APIRouter()
    api.get("/history")(control.history)
    api.get("/webhooks")(control.webhook_deliveries)
    api.get("/faults")(control.pending_faults)
    api.delete("/faults", **NO_CONTENT)(control.clear_faults)
    api.delete("/requests", **NO_CONTENT)(control.clear_requests)
    api.get("/settings")(control.settings)
    api.post("/reset", **NO_CONTENT)(control.reset)

    @api.get("/requests")
    async def list_requests(
        path: str | None = None, last: Annotated[int | None, Query(ge=1)] = None
    ) -> list[Document]:
        requests = control.requests(path)
        return requests if last is None else requests[-last:]

    @api.patch("/{resource_type}/{resource_id}")
    async def change_resource(resource_type: str, resource_id: Id, change: Change) -> Document:
        return control.set_resource(resource_type, resource_id, **change.model_dump(exclude_unset=True))

    @api.post("/faults", status_code=201)
    async def add_fault(fault: Fault) -> list[Document]:
        control.fail_next(**fault.model_dump(exclude_unset=True))
        return control.pending_faults()

    @api.put("/api_key", **NO_CONTENT)
    async def rotate_key(api_key: Annotated[str, Body(embed=True)]) -> None:
        control.rotate_key(api_key)

    @api.patch("/settings")
    async def change_settings(changes: Settings) -> Document:
        control.set(**changes.model_dump(exclude_unset=True))
        return control.settings()

    # Last, since any other path would match, too.
    api.delete("/{resource_type}/{resource_id}", **NO_CONTENT)(control.remove_resource)

    @api.get("/resources")
    async def list_all_resources() -> list[Document]:
        return control.summaries()

    @api.get("/{resource_type}")
    async def list_resources(resource_type: str) -> list[Document]:
        return control.summaries(resource_type)

    @api.post("/{resource_type}", status_code=201)
    async def add_resource(resource_type: str, spec: dict[str, Any]) -> Document:
        return control.add_resource(resource_type, **spec)

    return api

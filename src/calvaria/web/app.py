"""Addresses of the page and what each does; thin: all work is done by `Session` and its workers."""

from __future__ import annotations

import asyncio
import errno
import json
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from calvaria import __version__
from calvaria.download.disk import SPARE_BYTES, free_bytes
from calvaria.errors import InputError, one_line
from calvaria.results.staging import files_in
from calvaria.web.asked import implant_controls, implant_of, own_of, run_asked
from calvaria.web.brought import FORMATS, RESULTS, VIEW
from calvaria.web.session import NOT_YET, RefusedError, Session
from calvaria.web.work import FULL

STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "dom.js": ("dom.js", "text/javascript; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "slices.js": ("slices.js", "text/javascript; charset=utf-8"),
    "design.js": ("design.js", "text/javascript; charset=utf-8"),
    "own.js": ("own.js", "text/javascript; charset=utf-8"),
    "upload.js": ("upload.js", "text/javascript; charset=utf-8"),
    "niivue.js": ("vendor/niivue.umd.js", "text/javascript; charset=utf-8"),
}
"""What the page is made of: address -> file of the package, and its kind."""

MAX_JSON_BYTES = 100_000

ZIP = "results.zip"

WRITING_S = 0.1
"""How often it is looked whether files are there that are being written."""

PICTURES = (".png",)
"""Files that are shown; all others are only saved."""

Endpoint = Callable[[Session, Request], Awaitable[Response]]


def make_app(session: Session) -> Starlette:
    """The page's application, not guarded yet.

    Args:
        session: its cases.
    """

    def at(path: str, method: str, endpoint: Endpoint) -> Route:
        return Route(path, _answered(partial(endpoint, session)), methods=[method])

    case = "/api/cases/{case}"
    routes = [
        at("/api/about", "GET", _about),
        at("/api/cases", "GET", _list),
        at("/api/cases", "POST", _new),
        at(case, "GET", _tell),
        at(case, "DELETE", _delete),
        at(f"{case}/files", "PUT", _receive),
        at(f"{case}/own", "DELETE", _take_own),
        at(f"{case}/complete", "POST", _complete),
        at(f"{case}/run", "POST", _run),
        at(f"{case}/design", "POST", _design),
        at(f"{case}/write", "POST", _write),
        at(f"{case}/cancel", "POST", _cancel),
        at(f"{case}/file/{{name:path}}", "GET", _file),
        at(f"{case}/slice/{{axis:int}}/{{index:int}}.png", "GET", _slice),
        at(f"{case}/results.zip", "GET", _zip),
        at("/{name}", "GET", _static),
        at("/", "GET", _static),
    ]
    return Starlette(routes=routes, exception_handlers={500: _bug, 404: _none, 405: _none})


def _answered(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose errors are answers: a sentence, and nothing of what is inside."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RefusedError as error:
            return _said(error.status, error.text)
        except InputError as error:
            return _said(400, one_line(error))
        except ClientDisconnect:
            return _said(400, "the upload was broken off")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return _said(507, FULL)
            return _said(500, "the disk refuses; see where the page was started")

    return answer


def _said(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


async def _bug(request: Request, error: Exception) -> Response:
    return _said(500, f"this is a bug, please report it: {type(error).__name__}")


async def _none(request: Request, error: Exception) -> Response:
    return _said(404, "there is nothing here")


async def _json(request: Request) -> dict[str, Any]:
    """What was asked for.

    Raises:
        RefusedError: it is no JSON object, or too long.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError(415, "JSON is wanted")
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MAX_JSON_BYTES:
            raise RefusedError(413, "this is too long")
    try:
        found = json.loads(body or b"{}")
    except ValueError as error:
        raise RefusedError(400, "this is no JSON") from error
    if not isinstance(found, dict):
        raise RefusedError(400, "a JSON object is wanted")
    return found


async def _about(session: Session, request: Request) -> Response:
    return JSONResponse(
        {
            "version": __version__,
            "formats": list(FORMATS),
            "max_upload_mb": session.served.max_upload_mb,
            "implant": implant_controls(),
        }
    )


async def _list(session: Session, request: Request) -> Response:
    return JSONResponse(session.listed())


async def _new(session: Session, request: Request) -> Response:
    await _json(request)
    case = await run_in_threadpool(session.new_case)
    return JSONResponse(session.told(case.id), 201)


async def _tell(session: Session, request: Request) -> Response:
    return JSONResponse(session.told(request.path_params["case"]))


async def _delete(session: Session, request: Request) -> Response:
    await run_in_threadpool(session.delete, request.path_params["case"])
    return Response(status_code=204)


async def _receive(session: Session, request: Request) -> Response:
    """One file of a case, written as it comes; what breaks off, or is too large, is taken away again."""
    suffix, own = request.query_params.get("suffix", ""), own_of(request.query_params.get("own"))
    if own is None:
        case, path = session.begin_file(request.path_params["case"], suffix)
    else:
        case, path = session.begin_own(request.path_params["case"], own, suffix)
    whole = False
    try:
        if free_bytes(case.folder) < SPARE_BYTES:
            raise OSError(errno.ENOSPC, "full")
        with path.open("xb") as file:
            async for block in request.stream():
                session.count(case, len(block), own=own is not None)
                file.write(block)
        whole = True
    finally:
        session.end_file(case)
        if not whole:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return Response(status_code=204)


async def _take_own(session: Session, request: Request) -> Response:
    await run_in_threadpool(session.take_own, request.path_params["case"])
    return Response(status_code=204)


async def _complete(session: Session, request: Request) -> Response:
    asked = await _json(request)
    session.complete(request.path_params["case"], asked, run_asked(asked))
    return JSONResponse(session.told(request.path_params["case"]))


async def _run(session: Session, request: Request) -> Response:
    asked = await _json(request)
    session.run(request.path_params["case"], asked, run_asked(asked))
    return JSONResponse(session.told(request.path_params["case"]))


async def _design(session: Session, request: Request) -> Response:
    number = session.design(request.path_params["case"], implant_of(await _json(request)))
    return JSONResponse({"number": number}, 202)


async def _write(session: Session, request: Request) -> Response:
    await _json(request)
    session.write(request.path_params["case"])
    return JSONResponse(session.told(request.path_params["case"]), 202)


async def _cancel(session: Session, request: Request) -> Response:
    await _json(request)
    await run_in_threadpool(session.cancel, request.path_params["case"])
    return JSONResponse(session.told(request.path_params["case"]))


async def _file(session: Session, request: Request) -> Response:
    path = session.file_of(request.path_params["case"], request.path_params["name"])
    if path.suffix in PICTURES:
        return FileResponse(path, media_type="image/png")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


async def _slice(session: Session, request: Request) -> Response:
    from calvaria.web.views import slice_png

    case = session.case(request.path_params["case"])
    try:
        picture = await run_in_threadpool(
            slice_png, case.folder / VIEW, request.path_params["axis"], request.path_params["index"]
        )
    except (IndexError, FileNotFoundError):
        raise RefusedError(404, "there is no such slice") from None
    return Response(picture, media_type="image/png")


async def _zip(session: Session, request: Request) -> Response:
    """All files of a case; those of its implant are written first, if they are not there."""
    case = session.case(request.path_params["case"])
    session.write(case.id)
    while case.design.state == "writing" and not await request.is_disconnected():
        await asyncio.sleep(WRITING_S)
    if session.case(case.id).design.made_with is not None and not case.design.files:
        raise RefusedError(409, case.design.text or NOT_YET)
    path = await run_in_threadpool(pack, case.folder)
    return FileResponse(path, media_type="application/zip", filename=f"calvaria-case-{case.number}.zip")


def pack(folder: Path) -> Path:
    """All results of a case as one zip.

    Args:
        folder: the case's.
    """
    from calvaria.files import atomic_path

    results = folder / RESULTS
    with (
        atomic_path(folder / ZIP) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name in files_in(results):
            archive.write(results / name, name)
    return folder / ZIP


async def _static(session: Session, request: Request) -> Response:
    found = STATIC.get(request.path_params.get("name", ""))
    if found is None:
        return PlainTextResponse("there is nothing here\n", 404)
    content = await asyncio.to_thread((files("calvaria.web") / "static" / found[0]).read_bytes)
    return Response(content, media_type=found[1])


__all__ = ["STATIC", "make_app", "pack"]

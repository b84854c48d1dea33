"""MONAI Label's web application, for its own pages alone, with errors that say why.

Its own answer to most errors is "Internal Server Error", and it lets every web page send requests and read answers.

This file is copied into an application folder and named to MONAI Label by ``--uvicorn_app banet_asgi:app``.
"""

from __future__ import annotations

import logging
import os

from banet_guard import HOSTS, ORIGINS, OwnPagesOnly, listed
from fastapi import Request
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)

__all__ = ["app"]

logger = logging.getLogger("banet_asgi")

NOT_FOUND, WRONG, FAILED = 404, 400, 500  # of HTTP
# what readers and configurations raise about what they were given
WRONG_INPUT = (ValueError, TypeError, FileNotFoundError)


def refused(request: Request, error: MONAILabelException) -> JSONResponse:
    """What MONAI Label says itself."""
    missing = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    wrong = error.error in (MONAILabelError.INVALID_INPUT, MONAILabelError.APP_INIT_ERROR)
    return _answer(request, NOT_FOUND if missing else WRONG if wrong else FAILED, error.msg)


def explained(request: Request, error: Exception) -> JSONResponse:
    """The innermost cause: MONAI wraps what a transform or a configuration raises."""
    cause: BaseException = error
    while isinstance(cause, RuntimeError) and cause.__cause__ is not None:
        cause = cause.__cause__
    logger.warning("%s failed", request.url.path, exc_info=error)
    known = isinstance(cause, WRONG_INPUT)
    return _answer(request, WRONG if known else FAILED, str(cause) if known else f"{type(cause).__name__}: {cause}")


def _answer(request: Request, status: int, why: str) -> JSONResponse:
    logger.warning("%s: %d, %s", request.url.path, status, why)
    return JSONResponse({"detail": why}, status_code=status)


app.add_middleware(OwnPagesOnly, hosts=listed(os.environ.get(HOSTS, "")), origins=listed(os.environ.get(ORIGINS, "")))
app.add_exception_handler(MONAILabelException, refused)
for kind in (Exception, RuntimeError, *WRONG_INPUT):
    app.add_exception_handler(kind, explained)

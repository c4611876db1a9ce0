"""A server that gets events as JSON, by HTTP POST, within a time whatever its name server or its answer takes."""

from __future__ import annotations

import base64
import http.client
import queue
import ssl
import threading
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

from ostcal._version import __version__
from ostcal.events.failure import Failure
from ostcal.redaction import server_of, without_secrets

_TRY_AGAIN = (408, 425, 429)
"""Refusals that may pass; others below 500 say that the request is wrong."""


class Webhook:
    """Posts each event to an address; whoever asks again after a failure sends the same ``id``."""

    def __init__(self, url: str, retries: int) -> None:
        self._url, self._headers = _address(url)
        self.name = server_of(url)
        self.retries = retries

    def deliver(self, document: bytes, timeout_s: float) -> Failure | None:
        """Post the document; the time counts from the search for the server's name to its answer.

        The search for a name takes no limit, so the request has a thread, which is left behind when its time is over.
        """
        outcome: queue.SimpleQueue[Failure | None] = queue.SimpleQueue()
        threading.Thread(
            target=lambda: outcome.put(self._post(document, timeout_s)), name="webhook", daemon=True
        ).start()
        try:
            return outcome.get(timeout=timeout_s)
        except queue.Empty:
            return Failure(reason=f"no answer within {timeout_s:g} s (hooks.timeout)", may_pass=True)

    def _post(self, document: bytes, timeout_s: float) -> Failure | None:
        request = urllib.request.Request(self._url, data=document, headers=self._headers, method="POST")
        try:
            with urllib.request.build_opener(_NoRedirects()).open(request, timeout=timeout_s):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            may_pass = error.code >= 500 or error.code in _TRY_AGAIN
            moved = ", and redirects are not followed; see hooks.url" if 300 <= error.code < 400 else ""
            return Failure(reason=f"it answered {error.code}{moved}", may_pass=may_pass)
        except urllib.error.URLError as error:
            wrong = isinstance(error.reason, ssl.SSLCertVerificationError)
            return Failure(reason=f"it cannot be reached: {_words(error.reason)}", may_pass=not wrong)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Failure(reason=f"it cannot be reached: {_words(error)}", may_pass=True)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects alone: they would turn a POST into a GET, and send an event to another server."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow nothing."""
        return None


def _address(url: str) -> tuple[str, dict[str, str]]:
    """Return an address without credentials, and the headers of a request, in which they are."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", "User-Agent": f"ostcal/{__version__}"}
    user, at, server = parts.netloc.rpartition("@")
    if at:
        headers["Authorization"] = "Basic " + base64.b64encode(unquote(user).encode()).decode("ascii")
    return urlunsplit(parts._replace(netloc=server, fragment="")), headers


def _words(reason: object) -> str:
    """Return an error of the system on one line, without secrets."""
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return without_secrets(" ".join(str(text).split()))[:200]

"""Slack's clients, but for redirects: what they send holds a token, and goes where it is told to or nowhere."""

from __future__ import annotations

from typing import Any, Final
from urllib.request import HTTPRedirectHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.web.file_upload_v2_result import FileUploadV2Result
from slack_sdk.webhook import WebhookClient, WebhookResponse

LARGEST: Final = 4 << 20
"""Bytes of an answer beyond which it is not read on."""


class _Staying(HTTPRedirectHandler):
    """Makes a redirect the error that it is here."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Go nowhere else."""


_OPENER: Final = build_opener(_Staying)


class StayingClient(WebClient):
    """The Web API."""

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        with _OPENER.open(req, timeout=self.timeout) as answer:
            return {"status": answer.status, "headers": answer.headers, "body": _text(answer)}

    def _upload_file(self, *, url: str, data: bytes, **_: Any) -> FileUploadV2Result:
        with _OPENER.open(Request(method="POST", url=url, data=data), timeout=self.timeout) as answer:
            return FileUploadV2Result(status=answer.status, body=_text(answer))


class StayingHook(WebhookClient):
    """An incoming webhook."""

    def _perform_http_request_internal(self, url: str, req: Request) -> WebhookResponse:
        with _OPENER.open(req, timeout=self.timeout) as answer:
            return WebhookResponse(url=url, status_code=answer.status, body=_text(answer), headers=answer.headers)


def _text(answer: Any) -> str:
    return str(answer.read(LARGEST).decode(answer.headers.get_content_charset() or "utf-8"))

"""An HTTP handler for wasi:http. All languages' handlers answer alike."""

import json
from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import InputStream, StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Get,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

TEXT = "text/plain; charset=utf-8"
# What blocking_write_and_flush takes at once.
CHUNK = 4096


def chunks(body: IncomingBody):
    """A body's bytes, as they come."""
    with body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(CHUNK)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return
                raise


def respond(out: ResponseOutparam, status: int, content_type: str, parts) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", content_type.encode())]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        for part in parts:
            for start in range(0, len(part), CHUNK):
                stream.blocking_write_and_flush(part[start : start + CHUNK])
    OutgoingBody.finish(body, None)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        url = urlsplit(request.path_with_query() or "/")
        method = request.method()
        if isinstance(method, Method_Get) and url.path == "/hello":
            name = parse_qs(url.query).get("name", ["world"])[0]
            respond(response_out, 200, TEXT, [f"Hello, {name}!".encode()])
        elif isinstance(method, Method_Post) and url.path == "/echo":
            types = request.headers().get("content-type")
            content_type = types[0].decode() if types else "application/octet-stream"
            # Passed on as it comes.
            respond(response_out, 200, content_type, chunks(request.consume()))
        elif isinstance(method, Method_Post) and url.path == "/count-words":
            words = b"".join(chunks(request.consume())).split()
            answer = json.dumps({"words": len(words)}, separators=(",", ":"))
            respond(response_out, 200, "application/json", [answer.encode()])
        else:
            respond(response_out, 404, TEXT, [f"nothing at {url.path}".encode()])

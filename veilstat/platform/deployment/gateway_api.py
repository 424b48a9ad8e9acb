"""The gateway's description of itself (OpenAPI 3.1), and its limits."""

from __future__ import annotations

from typing import Any

from veilstat.protocol.envelope import LARGEST_FRAME

FRAMES = "application/octet-stream"
LARGEST_BODY = 4 * LARGEST_FRAME
LONGEST_WAIT = 20
_JSON = "application/json"


def describe(version: str) -> dict[str, Any]:
    """The description that ``/openapi.json`` gives."""
    session = {"name": "session", "in": "path", "required": True, "schema": {"type": "string"}}
    frames = {"content": {FRAMES: {"schema": {"type": "string", "format": "binary", "maxLength": LARGEST_BODY}}}}
    after = {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 1 << 62, "default": 0}}
    wait = {"name": "wait", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 3600, "default": 0}}
    number = {"type": "integer", "minimum": 0}
    status = _object(
        connected=_list(),
        query={"type": ["string", "null"]},
        round={"type": ["string", "null"]},
        missing=_list(),
        bytes={"type": "object", "additionalProperties": number},
        epoch={"type": ["string", "null"]},
        asking=_list(),
    )
    text = {"type": "string"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "veilstat gateway",
            "version": version,
            "description": "Moves an analyst's signed envelopes. Frames are packed behind their lengths (4 bytes, little-endian).",
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _object(code=text, message=text)},
        },
        "security": [{"token": []}],
        "paths": {
            "/openapi.json": {"get": {"summary": "This description", "security": [], "responses": {"200": _answer({"type": "object"})}}},
            "/v1/study": {
                "get": _operation("What the study publishes", "200", _answer(_object(software=text, roster=text, study=text)))
            },
            "/v1/status": {"get": _operation("Who is connected, and the running query's round and bytes", "200", _answer(status))},
            "/v1/sessions": {
                "post": _operation("Open the session of one query", "201", _answer(_object(session=text)), "409")
            },
            "/v1/sessions/{session}": {
                "parameters": [session],
                "delete": _operation("Close it", "200", _answer(_object(bytes={"type": "object", "additionalProperties": number})), "404"),
            },
            "/v1/sessions/{session}/frames": {
                "parameters": [session],
                "post": {
                    **_operation("Send signed frames", "202", {"description": "taken"}, "400", "404", "408", "413"),
                    "requestBody": {"required": True, **frames},
                },
                "get": {
                    **_operation(
                        "Fetch the frames behind the first `after`, waiting `wait` seconds for one",
                        "200",
                        {"description": "frames", **frames, "headers": {"veilstat-last": {"schema": number}}},
                        "400",
                        "404",
                        "409",
                    ),
                    "parameters": [after, wait],
                },
            },
        },
    }  # fmt: skip


def _operation(summary: str, status: str, answer: dict[str, Any], *refusals: str) -> dict[str, Any]:
    error = {"description": "refused", "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    return {"summary": summary, "responses": {status: answer, **dict.fromkeys(("401", "429", *refusals), error)}}


def _answer(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "as asked", "content": {_JSON: {"schema": schema}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _list() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}}

"""The bridge between the interface (wit/) and the handler. componentize-py makes `wit_world` from wit/."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.metadata import Descriptor
from wit_world.imports import types

import handler


def lower(emission: handler.Emission) -> types.Emission:
    # The same bytes as in other languages: no spaces, no escaped characters.
    data = json.dumps(emission.data, ensure_ascii=False, separators=(",", ":"))
    return types.Emission(
        type=emission.type,
        data=data.encode("utf-8"),
        content_type=None,
        routing_key=None,
        subject=emission.subject,
        attributes=[],
        priority=None,
        dedupe_key=None,
        deliver_after_ms=None,
    )


class Handler(exports.Handler):
    def handle(self, event: types.Event) -> list[types.Emission]:
        try:
            return [lower(emission) for emission in handler.handle(event)]
        except handler.Rejected as error:
            # `Failure_Retry(RetryHint(reason, None))` asks for a retry. Any other exception is a trap: the
            # event is tried again too, and the traceback is in the log.
            raise Err(types.Failure_Reject(str(error))) from error


class Metadata(exports.Metadata):
    def describe(self) -> Descriptor:
        return Descriptor("{{name}}", "0.1.0", handler.DESCRIPTION, handler.TAKES, handler.EMITS)

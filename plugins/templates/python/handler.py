"""The plugin's own code. It does not depend on WebAssembly, so that unittest can run it."""

import json
from dataclasses import dataclass
from typing import Any, Optional

DESCRIPTION = "Answers a greeting"
TAKES = ["hello.said"]
EMITS = ["hello.answered"]


class Rejected(Exception):
    """The event is refused for good: it goes to the dead-letter queue with this text."""


@dataclass
class Emission:
    """An event to publish. The data becomes JSON."""

    type: str
    data: Any
    subject: Optional[str] = None


@dataclass
class Said:
    """The data of `hello.said`."""

    name: str

    @classmethod
    def parse(cls, event: Any) -> "Said":
        def reject(why: object) -> Rejected:
            return Rejected(f"{event.type}: {why}")

        try:
            # Decoded here, because json.loads also accepts UTF-16.
            data = json.loads(event.data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise reject(error) from error
        if not isinstance(data, dict):
            raise reject("the data is no JSON object")
        if not isinstance(data.get("name"), str):
            raise reject("`name` is missing, or no string")
        return cls(name=data["name"])


def handle(event: Any) -> list[Emission]:
    """Handles one event. It has `id`, `type`, `data` (bytes), and `time`, `tenant` and `user`, which may be None."""
    said = Said.parse(event)
    return [Emission("hello.answered", {"text": f"Hello, {said.name}!"}, subject=said.name)]

"""What the plugin does, without a word of WebAssembly, so that unittest runs it as it is."""

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
    """What follows from an event. The data becomes JSON."""

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
            # By hand, because json.loads would guess at UTF-16 and the like.
            data = json.loads(event.data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise reject(error) from error
        if not isinstance(data, dict):
            raise reject("the data is no JSON object")
        if not isinstance(data.get("name"), str):
            raise reject("`name` is missing, or no string")
        return cls(name=data["name"])


def handle(event: Any) -> list[Emission]:
    """Handles one event, which has `id`, `type`, `data` (bytes), and `time`, `tenant`, `user`, each of them or None."""
    said = Said.parse(event)
    return [Emission("hello.answered", {"text": f"Hello, {said.name}!"}, subject=said.name)]

"""`call.ended` with the outcome `callback_requested` becomes a planning task, due tomorrow."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Optional

DESCRIPTION = "Creates a task for every call that asks to be called back"
TAKES = ["call.ended"]
EMITS = ["planning.task.created"]

NO_CALLBACK = ("completed", "voicemail", "failed")
DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]")


class Rejected(Exception):
    """The event is refused for good: it goes to the dead-letter queue with this text."""


@dataclass
class Emission:
    """An event to publish. The data becomes JSON."""

    type: str
    data: Any
    subject: Optional[str] = None


@dataclass
class CallEnded:
    """The data of `call.ended`."""

    call_id: str
    duration: float
    outcome: str
    transcript: Optional[str]

    @classmethod
    def parse(cls, data: bytes) -> "CallEnded":
        """Raises ValueError with the error in the data."""
        # Decoded here, because json.loads also accepts UTF-16. Whole numbers may be too large for an int.
        call = json.loads(
            data.decode("utf-8"), parse_int=float, parse_constant=_no_constant, object_pairs_hook=_Object
        )
        if not isinstance(call, _Object):
            raise ValueError("the data is no JSON object in UTF-8")
        for field in ("call_id", "duration", "outcome", "transcript"):
            if field in call.repeated:
                raise ValueError(f"duplicate field `{field}`")
        for field in ("call_id", "duration", "outcome"):
            if field not in call:
                raise ValueError(f"missing field `{field}`")
        if not isinstance(call["duration"], float) or not math.isfinite(call["duration"]):
            raise ValueError("`duration` is no number")
        transcript = call.get("transcript")
        return cls(
            call_id=_text("call_id", call["call_id"]),
            duration=call["duration"],
            outcome=_text("outcome", call["outcome"]),
            transcript=None if transcript is None else _text("transcript", transcript),
        )


def _text(field: str, value: Any) -> str:
    # Python strings may hold half a surrogate pair, which is not valid Unicode.
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"`{field}` is no string")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


class _Object(dict[str, Any]):
    """An object that knows its repeated keys, because the meaning of a repeated key is ambiguous."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = {name for name in names if names.count(name) > 1} if len(self) < len(names) else set()


def handle(event: Any) -> list[Emission]:
    """One task, or none when no call back was requested."""

    def reject(why: object) -> Rejected:
        return Rejected(f"{event.type}: {why}")

    try:
        call = CallEnded.parse(event.data)
    except (ValueError, RecursionError) as error:
        raise reject(error) from error
    if call.duration < 0:
        raise reject("`duration` is below 0")
    if call.outcome in NO_CALLBACK:
        return []
    if call.outcome != "callback_requested":
        raise reject(f"unknown outcome `{call.outcome}`")
    # The event's time is used instead of the clock, so that a retry tomorrow gives the same task.
    due_date = day_after(event.time)
    if due_date is None:
        raise reject("the event has no time, or one that is not RFC 3339")
    description = "The caller asked to be called back."
    if call.transcript is not None:
        description += f"\n\nTranscript:\n{call.transcript}"
    task = {
        "title": f"Call back: {call.call_id}",
        "description": description,
        "priority": "high",
        "due_date": due_date,
        "organization_id": event.tenant,
        "user_id": event.user,
        "source": {"event_id": event.id, "call_id": call.call_id},
    }
    return [Emission("planning.task.created", task, subject=call.call_id)]


def day_after(time: Optional[str]) -> Optional[str]:
    """`YYYY-MM-DD` of the day after an RFC 3339 time, in the time's own offset."""
    parts = DATE.match(time or "")
    if parts is None:
        return None
    year, month, day = (int(part) for part in parts.groups())
    if not 1 <= month <= 12 or not 1 <= day <= _days_in(year, month):
        return None
    day += 1
    if day > _days_in(year, month):
        month, day = month + 1, 1
    if month > 12:
        year, month = year + 1, 1
    return f"{year:04}-{month:02}-{day:02}"


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31

"""python3 -m unittest"""

import json
import unittest
from types import SimpleNamespace
from typing import Any, Optional

from handler import Emission, Rejected, day_after, handle


def ended(data: Any, time: Optional[str] = "2026-11-21T10:00:00Z") -> list[Emission]:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return handle(
        SimpleNamespace(id="event-1", type="call.ended", time=time, tenant="org-1", user="user-1", data=data)
    )


def call(outcome: str) -> dict[str, Any]:
    return {"call_id": "c-1", "duration": 61.5, "outcome": outcome, "transcript": None}


class CallbackTaskTest(unittest.TestCase):
    def test_only_a_requested_callback_makes_a_task(self) -> None:
        for outcome in ["completed", "voicemail", "failed"]:
            self.assertEqual(ended(call(outcome)), [])
        (task,) = ended(call("callback_requested"))
        self.assertEqual((task.type, task.subject), ("planning.task.created", "c-1"))
        self.assertEqual(task.data["due_date"], "2026-11-22")

    def test_what_does_not_fit_is_rejected(self) -> None:
        bad = [
            {"duration": 1, "outcome": "completed"},
            {"call_id": "c", "duration": -1, "outcome": "completed"},
            {"call_id": "c", "duration": True, "outcome": "completed"},
            {"call_id": "c", "duration": 1, "outcome": "lost"},
            {"call_id": "\ud800", "duration": 1, "outcome": "completed"},
            [],
            b'{"call_id":"c","duration":NaN,"outcome":"completed"}',
            b'{"call_id":"c","call_id":"d","duration":1,"outcome":"completed"}',
            json.dumps(call("completed")).encode("utf-16"),
        ]
        for data in bad:
            with self.assertRaises(Rejected, msg=data):
                ended(data)
        with self.assertRaises(Rejected):
            ended(call("callback_requested"), time=None)

    def test_tomorrow_by_the_calendar(self) -> None:
        self.assertEqual(day_after("2026-12-31T12:00:00Z"), "2027-01-01")
        self.assertEqual(day_after("2028-02-28T12:00:00Z"), "2028-02-29")
        self.assertEqual(day_after("2100-02-28T12:00:00Z"), "2100-03-01")
        for time in ["2026-02-30T12:00:00Z", "2026-11-21", "yesterday", None]:
            self.assertIsNone(day_after(time), time)


if __name__ == "__main__":
    unittest.main()

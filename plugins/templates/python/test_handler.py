"""python3 -m unittest"""

import unittest
from types import SimpleNamespace

from handler import Emission, Rejected, handle


def said(data: bytes) -> list[Emission]:
    return handle(SimpleNamespace(id="event-1", type="hello.said", time=None, tenant=None, user=None, data=data))


class HandlerTest(unittest.TestCase):
    def test_a_greeting_is_answered(self) -> None:
        answered = said('{"name":"Zoë","more":[1]}'.encode())
        self.assertEqual(answered, [Emission("hello.answered", {"text": "Hello, Zoë!"}, subject="Zoë")])

    def test_what_does_not_fit_is_rejected(self) -> None:
        for data in [b"", b"[]", b"null", b"{}", b'{"name":1}', b'{"name":"a"', b"\xef\xbb\xbf{}", b"\xff"]:
            with self.assertRaisesRegex(Rejected, "^hello.said: ", msg=data):
                said(data)


if __name__ == "__main__":
    unittest.main()

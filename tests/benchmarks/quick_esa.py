"""
An ESA that takes no time: a process of its own, which answers Create and the plan in their documented shapes and counts them.

It has no sites to list, which a worker asks for when it begins: that is answered, and not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from esa_preload.stopping import loop_factory

if TYPE_CHECKING:
    from collections.abc import Sequence

ANNOUNCED = "listens at "
CREATE_JOB = b"CreateScheduledPreloadJob"
CREATE_PLANS = b"CreateScheduledPreloadExecutions"
LIST_SITES = b"ListSites"
COUNTS = "/counts"
_ACTION = re.compile(rb"\r\nx-acs-action: *(\w+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SITE = re.compile(rb"(?:^|&)SiteId=(\d+)")
_NAME = re.compile(rb"(?:^|&)Name=([^&]*)")
_JOB = re.compile(rb"[?&]Id=([0-9a-f]+)")
_JOB_REPLY = (
    '{"RequestId":"%s","Id":"%024x","SiteId":%s,"Name":"%s","AliUid":"1","InsertWay":"textBox","TaskType":"preload",'
    '"CreatedAt":"2026-11-24T00:00:00+0800","UrlCount":%d,"UrlSubmitted":%d,"TaskSubmitted":0,"ErrorInfo":"",'
    '"FailedFileOss":"","Domains":"www.example.com"}'
)
_PLAN_REPLY = (
    '{"RequestId":"%s","TotalCount":1,"SuccessCount":1,"FailedMessages":[],"FailedExecutions":[],"SuccessExecutions":[{"Id":"%024x",'
    '"JobId":"%s","AliUid":"1","Status":"waiting","StartTime":"","EndTime":"","Interval":30,"SliceLen":10}]}'
)
_REQUEST_ID = "0AF60A7B-3A7C-5E7D-9A0C-0F2B4C1D5E6F"


@dataclass(slots=True)
class Counts:
    """
    What it got.

    Attributes:
        at: when the last call came, s of the machine's monotonic clock.
        batches: how many Creates held so many URLs.
        calls: by operation; ``refused``: whatever it does not know.
    """

    at: float = 0.0
    batches: Counter[int] = field(default_factory=Counter[int])
    calls: Counter[str] = field(default_factory=Counter[str])

    def add(self, operation: bytes) -> None:
        """Count one call."""
        self.at = time.monotonic()
        self.calls[operation.decode()] += 1


class Answers(asyncio.Protocol):
    """One connection; any number of requests one after the other."""

    serial = 0
    counts = Counts()

    def __init__(self) -> None:
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that has come in whole."""
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._got) < whole:
                return
            body, self._got = self._got[end + 4 : whole], self._got[whole:]
            status, text = self._answer(head, body)
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(text), text.encode())
            )

    @classmethod
    def _answer(cls, head: bytes, body: bytes) -> tuple[bytes, str]:
        found = _ACTION.search(head)
        action = found[1] if found else b""
        cls.serial += 1
        counts = cls.counts
        if action == CREATE_JOB:
            site, name = _SITE.search(body), _NAME.search(body)
            assert site, body
            assert name, body
            urls = body[body.index(b"UrlList=") :].count(b"%0A") + 1
            counts.batches[urls] += 1
            counts.add(action)
            parts = (_REQUEST_ID, cls.serial, site[1].decode(), name[1].decode(), urls, urls)
            return b"200 OK", _JOB_REPLY % parts
        if action == CREATE_PLANS:
            job = _JOB.search(head)
            assert job, head
            counts.add(action)
            return b"200 OK", _PLAN_REPLY % (_REQUEST_ID, cls.serial, job[1].decode())
        if action == LIST_SITES:
            return b"200 OK", f'{{"RequestId":"{_REQUEST_ID}","Sites":[],"TotalCount":0}}'
        if head.startswith(f"GET {COUNTS} ".encode()):
            return b"200 OK", json.dumps({"at": counts.at, "batches": counts.batches, "calls": counts.calls})
        counts.add(b"refused")
        return b"400 Bad Request", f'{{"RequestId":"{_REQUEST_ID}","Code":"InvalidAction","Message":"none"}}'


async def serve() -> None:
    """Serve until killed; says where once it listens."""
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"{ANNOUNCED}http://127.0.0.1:{port}", flush=True)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()

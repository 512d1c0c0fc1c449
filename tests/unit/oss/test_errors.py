"""What an operator is told of a call of OSS that failed."""

from __future__ import annotations

import pytest

from esa_preload_worker.oss_errors import OssError, oss_error

SECRET = "canary"


class ReplyError(Exception):
    """As the library raises what the service said, with what must not be quoted."""

    def __init__(self, status: int, code: object = "", request_id: object = "5C3D9175B6FC201293AD") -> None:
        super().__init__(f"https://h/?x-oss-signature={SECRET}")
        self.status_code, self.code, self.request_id = status, code, request_id
        self.message = self.request_target = SECRET


def error_of(error: Exception) -> OssError:
    """Return what is made of *error*; nothing secret is in it."""
    made = oss_error("PutObject", error, resource="lists/esa-preload/*")
    assert SECRET not in f"{made!r}{made.hint}{made.code}"
    return made


@pytest.mark.parametrize(
    ("reply", "code", "word", "is_passing"),
    [
        (ReplyError(403, "AccessDenied"), "AccessDenied", "grant oss:PutObject and oss:PutObjectAcl on acs:oss:*:*:lists/esa-preload/*", False),
        (ReplyError(404, "NoSuchBucket"), "NoSuchBucket", "ESA_PRELOAD_OSS_BUCKET", False),
        (ReplyError(400, "PublicEndpointForbidden"), "PublicEndpointForbidden", "domain of your own", False),
        (ReplyError(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed", "clock", False),
        (ReplyError(403, "SignatureDoesNotMatch"), "SignatureDoesNotMatch", "access key", False),
        (ReplyError(503, "ServiceUnavailable"), "ServiceUnavailable", "", True),
        (ReplyError(429, "TooManyRequests"), "TooManyRequests", "", True),
        (ReplyError(500, None, None), "HTTP500", "", True),
        (ReplyError(418, "a b\n", "\x1b[0m"), "HTTP418", "", False),
        (TimeoutError(), "oss.timeout", "", True),
        (ConnectionRefusedError(SECRET), "oss.not_reached", "ESA_PRELOAD_OSS_ENDPOINT", True),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do(reply: Exception, code: str, word: str, is_passing: bool) -> None:
    """The code as OSS gave it, a hint where a person must act, and whether waiting helps."""
    made = error_of(reply)
    assert (made.code, made.is_passing) == (code, is_passing)
    assert word in made.hint
    assert "\n" not in str(made)
    assert "\x1b" not in str(made)

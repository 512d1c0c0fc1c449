"""Sessions of people: a signed cookie that names the token it began with, and nothing that anybody could use instead of it."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from itsdangerous import BadSignature, URLSafeSerializer

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S: Final = 3_600
"""A session ends when nobody did anything for so long; a page that renews itself is nobody."""

LIFETIME_S: Final = 12 * 3_600
"""And at the end of a working day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """
    Who is at a browser.

    Attributes:
        csrf: stands in every form; another site's page cannot know it.
        token: the hash of the token that was signed in with, empty before that.
        began_s: when, in seconds since 1970; ``seen_s``: when something was last done.
        notice: what the next page says once.
    """

    csrf: str
    token: str
    began_s: int
    seen_s: int
    notice: str = ""


class Sessions:
    """
    Reads and writes sessions as the value of a cookie.

    Args:
        key: signs them; processes that share it share sessions.
    """

    def __init__(self, key: str, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._serializer = URLSafeSerializer(
            key, salt="esa-preload-console", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def begin(self, token: str = "") -> Session:
        """Return a new session, signed in with the token of that hash, if any."""
        now = int(self._clock())
        return Session(csrf=secrets.token_urlsafe(24), token=token, began_s=now, seen_s=now)

    def touch(self, session: Session) -> Session:
        """Return *session* as seen just now."""
        return replace(session, seen_s=int(self._clock()))

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or ``None`` when it is not ours or has ended."""
        try:
            session = _parse(self._serializer.loads(cookie))
        except (BadSignature, TypeError):
            return None
        now = self._clock()
        if session.token and (now - session.seen_s > IDLE_S or now - session.began_s > LIFETIME_S):
            return None
        return session

    def write(self, session: Session) -> str:
        """Return the cookie of a session."""
        return str(self._serializer.dumps(asdict(session)))


def _parse(content: Any) -> Session:
    """Return what we signed, perhaps by another release: what that had more or less makes it none."""
    return Session(**content)

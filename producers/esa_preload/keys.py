"""Names of the ledger's keys, in one place. What each holds: ``lua/prelude.lua`` and docs/reference/ledger.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esa_preload.errors import SettingsError

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace: one ESA account and endpoint, whose limits all its workers share."""

    namespace: str

    def __post_init__(self) -> None:
        if not isinstance(self.namespace, str) or not _NAMESPACE.fullmatch(self.namespace):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise SettingsError(
                "ESA_PRELOAD_NAMESPACE must be 1 to 64 letters, digits, '.', '_' or '-' and begin with a letter or digit, "
                f"not {self.namespace!r}"
            )

    @property
    def prefix(self) -> str:
        """What each key of the namespace begins with."""
        return f"esa-preload:{self.namespace}:"

    @property
    def meta(self) -> str:
        """Hash, permanent: counters, the armed wake-up, the account's block, the fingerprint."""
        return f"{self.prefix}meta"

    @property
    def settings(self) -> str:
        """Hash, permanent: what the workers published."""
        return f"{self.prefix}settings"

    @property
    def sites(self) -> str:
        """Sorted set, permanent: site → ms when it was first seen."""
        return f"{self.prefix}sites"

    @property
    def queue(self) -> str:
        """Sorted set: arq's queue of wake-ups."""
        return f"{self.prefix}queue"

    @property
    def ring(self) -> str:
        """Sorted set: site → ms from which it may be claimed."""
        return f"{self.prefix}ring"

    @property
    def leases(self) -> str:
        """Sorted set: batch → ms from which anybody may act on it."""
        return f"{self.prefix}leases"

    @property
    def workers(self) -> str:
        """Sorted set: worker → ms when it was last seen."""
        return f"{self.prefix}workers"

    @property
    def audit(self) -> str:
        """Stream with a TTL: who changed what."""
        return f"{self.prefix}audit"

    @property
    def site_ids(self) -> str:
        """Hash with a TTL: name of a site of the account → its id."""
        return f"{self.prefix}site-ids"

    @property
    def site_names(self) -> str:
        """Hash with a TTL: id of a site of the account → its name."""
        return f"{self.prefix}site-names"

    def site(self, site_id: int) -> str:
        """Hash, permanent: totals and state of a site."""
        return f"{self.prefix}site:{site_id}"

    def lanes(self, site_id: int) -> str:
        """Sorted set: lane → ms at which it falls due."""
        return f"{self.prefix}lanes:{site_id}"

    def lane(self, site_id: int, lane: str) -> str:
        """Hash: a lane's own record."""
        return f"{self.prefix}lane:{site_id}:{lane}"

    def urls(self, site_id: int, lane: str) -> str:
        """Hash: pending url → band, time and owners."""
        return f"{self.prefix}urls:{site_id}:{lane}"

    def band(self, site_id: int, lane: str, band: int) -> str:
        """List: urls of a band, oldest first."""
        return f"{self.prefix}band:{site_id}:{lane}:{band}"

    def request_number(self, request_id: str) -> str:
        """Text: the number under which a request is kept; ends with it."""
        return f"{self.prefix}request-id:{request_id}"

    def request(self, number: str) -> str:
        """Hash: a request and its counts; ends ``REQUEST_TTL`` after it is done."""
        return f"{self.prefix}request:{number}"

    def active(self, site_id: int | None = None) -> str:
        """Sorted set: request that has something left to do → its number; of a site, or over all."""
        return f"{self.prefix}active" + ("" if site_id is None else f":{site_id}")

    def done(self, site_id: int | None = None) -> str:
        """Sorted set with a TTL: request that is done → its number; of a site, or over all."""
        return f"{self.prefix}done" + ("" if site_id is None else f":{site_id}")

    def chunks(self, number: str) -> str:
        """Hash: chunk number → digest and result; ends with the request."""
        return f"{self.prefix}chunks:{number}"

    def batch(self, batch_id: str) -> str:
        """Hash: a claimed batch; gone when it is settled."""
        return f"{self.prefix}batch:{batch_id}"

    def bulk(self, batch_id: str) -> str:
        """List: the packs of a bulk batch, which are batches themselves."""
        return f"{self.prefix}bulk:{batch_id}"

    def job(self, job_id: str) -> str:
        """Hash with a TTL: a job of ours at ESA, and what is known of its plan."""
        return f"{self.prefix}job:{job_id}"

    def jobs(self, site_id: int) -> str:
        """Sorted set with a TTL: job of ours on the site → ms of the next look at it."""
        return f"{self.prefix}jobs:{site_id}"

    def lone(self, site_id: int) -> str:
        """Hash with a TTL: url that ESA refused by itself → ms of the first time."""
        return f"{self.prefix}lone:{site_id}"

    def failures(self, site_id: int) -> str:
        """Stream with a TTL: URLs that ended as refused, unknown or expired."""
        return f"{self.prefix}failures:{site_id}"

    def rate(self, operation: str) -> str:
        """Hash, permanent: pace and cooldown of an operation."""
        return f"{self.prefix}rate:{operation}"

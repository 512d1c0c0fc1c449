"""Carry what a lane holds to ESA as one list in a bucket: gather it in packs, store it, and end the packs. Decides nothing itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from esa_preload.logs import get_logger
from esa_preload_worker import bulk_decisions
from esa_preload_worker.claims import Bulk, LostClaim
from esa_preload_worker.esa.failed_file import URL_MAX_CHARS
from esa_preload_worker.ids import new_id
from esa_preload_worker.leases import LostClaimError
from esa_preload_worker.ledger import PACK_URLS
from esa_preload_worker.oss import object_name
from esa_preload_worker.oss_errors import OssError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from esa_preload_worker.claims import Batch, Exemption, Settlement
    from esa_preload_worker.leases import Leases
    from esa_preload_worker.ledger import WorkerLedger
    from esa_preload_worker.settings import Settings

    class Lists(Protocol):
        """Where the lists are kept; each method is safe to repeat, and raises ``OssError``."""

        async def put(self, name: str, lines: bytes) -> None: ...
        async def link(self, name: str) -> str: ...
        async def delete(self, name: str) -> None: ...


log = get_logger()


class ListKeeper:
    """The lists of a namespace, by the ids of their batches. Without a store it can only say that it has none."""

    def __init__(self, settings: Settings, store: Lists | None) -> None:
        self._settings = settings
        self._store = store
        self._last_trouble = ""

    def __bool__(self) -> bool:
        return self._store is not None

    async def put(self, batch: Batch, lines: bytes) -> None:
        """
        Store the list of *batch*, in the place of what was there.

        Raises:
            OssError: it is not there, or not as it should be.
        """
        await self._required().put(object_name(self._settings, batch.batch_id), lines)

    async def link(self, batch: Batch) -> str:
        """Return the address from which ESA reads the list of *batch*: a secret."""
        return await self._required().link(object_name(self._settings, batch.batch_id))

    async def drop(self, batch_id: str, site_id: int) -> None:
        """Delete a list that nobody reads any more, if that can be done now; what forbids it is said once until it works."""
        try:
            await self._required().delete(object_name(self._settings, batch_id))
        except OssError as exc:
            if exc.code != self._last_trouble:
                log.warning("list.kept", batch_id=batch_id, site_id=site_id, code=exc.code, hint=exc.hint)
            self._last_trouble = exc.code
        else:
            self._last_trouble = ""

    def _required(self) -> Lists:
        if self._store is None:
            raise OssError(
                "no bucket is configured here",
                code="no_bucket",
                hint="set ESA_PRELOAD_OSS_BUCKET on every worker of the namespace",
                is_passing=False,
            )
        return self._store


class Bulks:
    """What a worker does with bulk batches beside what it does with any."""

    def __init__(
        self, *, ledger: WorkerLedger, leases: Leases, settings: Settings, lists: ListKeeper
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._settings = settings
        self.lists = lists

    async def gather(self, batch: Batch) -> Settlement:
        """
        Fill the list of *batch* from its lane, and store it.

        Safe to repeat, by whomever: the packs that are there come first. From when the batch is ready its list does not change.

        Raises:
            LostClaimError: the batch is another's.
        """
        if not self.lists:
            return bulk_decisions.put_back()
        lines = await self._gather_lines(batch)
        if not bulk_decisions.is_worth_it(len(lines), self._settings):
            return bulk_decisions.put_back()
        self._leases.check(batch)
        try:
            await self.lists.put(batch, "".join(f"{url}\n" for url in lines).encode())
        except OssError as exc:
            return bulk_decisions.after_list_error(exc)
        return bulk_decisions.list_is_ready(len(lines))

    async def _gather_lines(self, batch: Batch) -> dict[str, None]:
        """Return the URLs of the list, each once: one that came again meanwhile stands in two packs."""
        lines: dict[str, None] = {}
        for pack_id in await self._ledger.packs(batch):
            lines.update(dict.fromkeys(await self._ledger.pack_urls(pack_id)))
        size, has_more = sum(map(_line_bytes, lines)), True
        most = bulk_decisions.most_urls(batch.bulk or Bulk(), self._settings)
        while has_more and len(lines) < most and size < self._settings.oss_max_bytes - URL_MAX_CHARS:
            found = await self._ledger.gather(
                batch,
                pack_id=new_id(),
                most_urls=min(PACK_URLS, most - len(lines)),
                most_bytes=self._settings.oss_max_bytes - size,
            )
            if isinstance(found, LostClaim):
                raise LostClaimError(batch.batch_id)
            has_more = found.has_more
            size += sum(_line_bytes(url) for url in found.urls if url not in lines)
            lines.update(dict.fromkeys(found.urls))
        return lines

    async def urls(self, batch: Batch) -> tuple[str, ...]:
        """Return the URLs of the packs that have not ended, each once."""
        found: dict[str, None] = {}
        for pack_id in await self._ledger.packs(batch):
            found.update(dict.fromkeys(await self._ledger.pack_urls(pack_id)))
        return tuple(found)

    async def end(self, batch: Batch, settlement: Settlement, *, keeps_list: bool) -> Mapping[str, int]:
        """
        End the packs of *batch* as decided; returns how many URLs ended how. Their list goes, unless its job *keeps* it.

        From the last to the first, so that what goes back to the heads of the bands stands there as before.

        Raises:
            LostClaimError: the batch is another's, who goes on with the packs that are left.
        """
        counts = Counter[str]()
        for pack_id in reversed(await self._ledger.packs(batch)):
            exemptions: tuple[Exemption, ...] = ()
            if settlement.by_url:
                exemptions = bulk_decisions.exemptions_of_pack(
                    await self._ledger.pack_urls(pack_id), settlement.by_url
                )
            ended = await self._ledger.end_pack(batch, pack_id, settlement, exemptions=exemptions)
            if ended.lost:
                raise LostClaimError(batch.batch_id)
            counts.update(ended.counts)
        if not keeps_list and self.lists:
            await self.lists.drop(batch.batch_id, batch.site_id)
        return counts


def _line_bytes(url: str) -> int:
    return len(url) + 1

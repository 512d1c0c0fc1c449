"""`esa-preload-worker` as it is without the extra `uvloop`."""

from __future__ import annotations

import sys

from esa_preload_worker.commands import main

if __name__ == "__main__":
    sys.modules["uvloop"] = None  # type: ignore[assignment] # whoever imports it is told that there is none
    main()

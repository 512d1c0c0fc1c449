"""``python -m esa_preload_worker``: the daemon's command line, without its script on the path."""

from esa_preload_worker.commands import main

if __name__ == "__main__":
    main()

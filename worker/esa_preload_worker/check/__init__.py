"""What ``esa-preload-worker check`` looks at: the environment, the ledger's invariants, and the probe of a running worker."""

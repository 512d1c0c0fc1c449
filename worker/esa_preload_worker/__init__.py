"""The daemon: batching, rate control, the ESA client, metrics and the sandbox."""

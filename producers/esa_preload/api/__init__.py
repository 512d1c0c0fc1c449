"""The queue over HTTP (extra ``http``): ``esa-preload serve``."""

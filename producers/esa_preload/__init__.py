"""What a service that publishes content uses to have its URLs preloaded by ESA."""

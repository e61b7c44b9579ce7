"""What the configs of this bundle cannot say in one line. Nothing here imports autoconf."""

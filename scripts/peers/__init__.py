"""The systems that `make bench-peers` compares: one file a peer says how it is started, mounted and stopped, and with which settings."""

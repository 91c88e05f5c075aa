"""The embedded Postgres: its binaries, its files, its process, and who uses it (``cluster``)."""

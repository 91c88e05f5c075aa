"""Foreign clients and the official conformance suite against a real server: ``make interop``."""

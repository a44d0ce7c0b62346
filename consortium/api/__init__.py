"""The consortium's HTTP API."""

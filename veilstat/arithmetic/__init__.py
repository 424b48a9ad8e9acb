"""Rings, keystreams, secret sharing and key agreement: pure functions on arrays and bytes."""

"""Circuits on shared totals: what is public about every number on the way, and their execution by protocols."""

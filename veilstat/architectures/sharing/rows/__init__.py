"""Circuits on uploaded rows: columns and totals over them, in rings of 64 and 128 bits; the rest is a circuit on totals."""

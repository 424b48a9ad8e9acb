"""The narrow waist that statistics, architectures, privacy and platform meet at.

The circuit says what is computed, the cut says what becomes clear, and a step joins them. What the numbers are is
the schema's. Nothing here knows a protocol, a key or a socket.
"""

"""The narrow waist that statistics, architectures, privacy and platform meet at.

Schema and encoding say what the numbers are, the circuit says what is computed, the cut says what becomes
clear, and a step joins them. Nothing here knows a protocol, a key or a socket.
"""

"""What a dishonest party, or a wire, makes of a payload; for tests that feed a session by hand."""


def flipped(payload, place=-1):
    """One bit is another."""
    changed = bytearray(payload)
    changed[place] ^= 1
    return bytes(changed)


def only(name, change):
    """What ``step`` changes, or forges, where the payloads from, or to, this party alone are altered."""
    return lambda party, payload: change(payload) if party == name else payload

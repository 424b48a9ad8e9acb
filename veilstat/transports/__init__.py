"""How protocol bytes move. Protocols know none of this."""

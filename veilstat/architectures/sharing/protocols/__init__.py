"""What three servers compute on shares, round by round: products, comparisons, divisions, systems. No circuit is known here."""

"""What an answer may still reveal: mechanisms, sensitivity, accountants, ledger. Not available yet."""

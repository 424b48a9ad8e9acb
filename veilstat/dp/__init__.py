"""What an answer may still reveal: mechanisms, sensitivity, calibration, ledger."""

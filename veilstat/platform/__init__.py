"""What people touch: studies, plans, results' receipts, the release gate, the parties, and the command line."""

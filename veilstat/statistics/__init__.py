"""What to compute: one file per family. A statistic is a frozen dataclass; adding a file here adds its statistics."""

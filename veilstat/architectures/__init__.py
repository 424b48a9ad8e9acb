"""How to compute a statistic unseen: each folder is one architecture; ``clear.py`` is the plain oracle."""

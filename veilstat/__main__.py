"""``python -m veilstat`` is ``veilstat``."""

from veilstat.platform.cli import main

if __name__ == "__main__":
    main()

"""``python -m estimator_app <command>``."""
import sys

from estimator_app.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

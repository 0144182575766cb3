"""``python -m estimator_app <command>``."""
import sys

if __name__ == "__main__":
    try:
        from estimator_app.cli import main
        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # before the command line is looked at, or after it is done
        sys.stderr.write("interrupted\n")
        status = 130
    sys.exit(status)

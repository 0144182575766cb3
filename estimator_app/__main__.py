"""``python -m estimator_app <command>``."""
import sys

if __name__ == "__main__":
    from estimator_app import signals
    try:
        from estimator_app.cli import main
        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # before the command line is looked at, or after it is done
        sys.stderr.write("interrupted\n")
        status = 130
    # What is left belongs to libraries, which would answer with their stack traces.
    signals.ignore_interrupts()
    sys.exit(status)

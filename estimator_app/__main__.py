"""``python -m estimator_app <command>``."""
import signal
import sys


def _end(status: int) -> None:
    # What is left belongs to libraries: a second Ctrl-C ends the process there, without their stack traces.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    try:
        from estimator_app.cli import main
        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # before the command line is looked at, or after it is done
        sys.stderr.write("interrupted\n")
        status = 130
    _end(status)

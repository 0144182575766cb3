"""What the ranks of the process tests run: ``python -m estimator_app.launch.rank ...rank_program FOLDER WHAT``."""
import os
import signal
import sys
import time


def main(folder, what):
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    received = []
    if what != "deaf":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda got, _frame: received.append(got))
    print("rank %d speaks" % rank, flush=True)
    with open(os.path.join(folder, "pid.%d" % rank), "w", encoding="ascii") as stream:
        stream.write(str(os.getpid()))
    os.rename(stream.name, os.path.join(folder, "up.%d" % rank))
    if what.startswith("fail") and rank == int(what[len("fail"):]):
        sys.stderr.write("error: the data are bad\n")
        return 1
    if what == "abort" and rank == 0:
        os.write(2, b"check failed\n")
        os.abort()
    if what == "crash" and rank == 1:
        raise ValueError("unexpected")
    if what == "early" and rank == 1:
        return 0
    if what == "end":
        time.sleep(0.5 * rank)
        return 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if signal.SIGUSR1 in received:
            received.remove(signal.SIGUSR1)
            open(os.path.join(folder, "noted.%d" % rank), "w", encoding="ascii").close()
        if received and what != "stuck":
            time.sleep(0.5 * rank)  # the ranks do not save equally fast
            open(os.path.join(folder, "saved.%d" % rank), "w", encoding="ascii").close()
            return 128 + received[0]
    return 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

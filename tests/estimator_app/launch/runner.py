"""A stand-in for horovodrun, as strict as it: tags every line, kills all ranks as soon as one fails or on SIGTERM."""
import os
import signal
import subprocess
import sys
import threading
import time


def main(ranks, *program):
    children = []
    for rank in range(ranks):
        identity = {"HOROVOD_RANK": rank, "HOROVOD_LOCAL_RANK": rank, "HOROVOD_SIZE": ranks,
                    "HOROVOD_LOCAL_SIZE": ranks}
        children.append(subprocess.Popen(
            program, env=dict(os.environ, **{name: str(value) for name, value in identity.items()}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True))

    def kill_all(*_arguments):
        for child in children:
            child.kill()

    signal.signal(signal.SIGTERM, kill_all)
    signal.signal(signal.SIGINT, kill_all)
    threads = []
    for rank, child in enumerate(children):
        for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
            threads.append(threading.Thread(target=forward, args=(rank, source, target)))
            threads[-1].start()
    first = 0
    while any(child.poll() is None for child in children):
        time.sleep(0.02)
        failed = [rank for rank, child in enumerate(children) if child.poll()]
        if failed and not first:
            status = children[failed[0]].returncode
            first = status if status > 0 else 128 - status
            sys.stdout.write("Process %d exit with status code %d.\n" % (failed[0], first))
            sys.stdout.flush()
            kill_all()
    for thread in threads:
        thread.join()
    return 1 if first else 0


def forward(rank, source, target):
    for line in source:
        target.write("[%d]<%s>:%s" % (rank, target.name.strip("<>"), line.decode()))
        target.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))

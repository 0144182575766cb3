"""What takes seconds to make is made once for both processes of a test run."""
import fcntl
import os


def made_once(factory, name, make):
    """Returns the folder that ``make(folder)`` has filled, in whichever process came first; not to be changed."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each process has a folder of its own in it
    folder, made = root / name, root / (name + ".made")
    with open(str(root / (name + ".lock")), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            made.touch()
    return folder

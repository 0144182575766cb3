"""Stands in for ``npu_bridge.estimator.npu.npu_common``: job and rank identity from the environment.

Source: npu_bridge_api 2.1 step 4 and the table and notes of 2.5.
"""
import os
from typing import NamedTuple, Optional

from rec_sdk_cpu.npu_bridge_modules.process_state import state


class JobInfo(NamedTuple):
    """Identity of the process within its job."""

    job_id: str
    rank_size: int
    rank_index: int


class NPUBasics:
    """The process-wide singleton that holds the job's identity: the environment is read once, whatever it held.

    Setting JOB_ID after a construction without it does not help, as with the real one.

    Source: npu_bridge_api 2.5.
    """

    jobinfo: Optional[JobInfo]

    def __new__(cls, job_start_file: str = "") -> "NPUBasics":
        """Returns the process's only instance, made at the first call.

        Args:
            job_start_file: path of a scheduler's job file; an unreadable path means "use the environment".

        Raises:
            ValueError: RANK_SIZE and CM_WORKER_SIZE are both set, or hold no number.
            NotImplementedError: the job file can be read: its layout is the cloud scheduler's and not documented.
        """
        if state.basics is None:
            instance = super().__new__(cls)
            instance.jobinfo = _load_job_info(job_start_file)
            state.basics = instance
        return state.basics


def read_rank_size() -> int:
    """Returns the number of processes that the environment announces, 1 where it is silent.

    Raises:
        ValueError: RANK_SIZE and CM_WORKER_SIZE are both set, or the value is not a positive number.

    Source: npu_bridge_api 2.5.
    """
    rank_size, worker_size = os.getenv("RANK_SIZE"), os.getenv("CM_WORKER_SIZE")
    if rank_size and worker_size:
        raise ValueError("RANK_SIZE and CM_WORK_SIZE cannot be configured at the same time (RANK_SIZE=%s, "
                         "CM_WORKER_SIZE=%s): the rank-table scheme uses the first, the scheme without a rank table "
                         "the second" % (rank_size, worker_size))
    text = worker_size or rank_size or "1"
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError("%s must be a positive number, found %r" % (
            "CM_WORKER_SIZE" if worker_size else "RANK_SIZE", text))
    return int(text)


def read_rank_id() -> int:
    """Returns this process's rank: POD_NAME where it is a number, else RANK_ID, else 0 (npu_bridge_api 2.5)."""
    pod_name = os.getenv("POD_NAME", "")
    # Outside the schedulers that number their pods, POD_NAME is free text; it cannot be a rank then.
    text = pod_name if pod_name.isascii() and pod_name.isdigit() else os.getenv("RANK_ID") or "0"
    if not (text.isascii() and text.isdigit()):
        raise ValueError("RANK_ID must be a number >= 0, found %r" % text)
    return int(text)


def _load_job_info(job_start_file: str) -> Optional[JobInfo]:
    if job_start_file and os.access(job_start_file, os.R_OK) and os.path.isfile(job_start_file):
        raise NotImplementedError("job_start_file=%r: the CPU stand-in reads the job's identity from the environment "
                                  "only; set JOB_ID and leave job_start_file empty" % job_start_file)
    rank_size, rank_index = read_rank_size(), read_rank_id()
    job_id = os.getenv("JOB_ID")
    if not job_id:
        return None
    return JobInfo(job_id, rank_size, rank_index)

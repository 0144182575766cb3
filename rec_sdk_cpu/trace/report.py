"""The report itself: calls, settings, differences and misfits, as plain text."""
import os
from typing import List, Optional, TextIO

from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.trace import binding, differences
from rec_sdk_cpu.trace.recorder import Call, Recorder

_WIDTH = 118
# Callables whose arguments are the settings of a program.
_SETTINGS = ("init", "create_table", "FeatureSpec", "sparse_lookup", "create_hash_optimizer",
             "create_hash_optimizer_by_address", "create_hash_optimizer_by_addr", "GraphModifierHook", "EvictHook",
             "NPURunConfig", "set_iteration_per_loop")
# Methods of TensorFlow's that are recorded.
_TENSORFLOW = ("Estimator.",)
# Variables that the SDK reads when it is imported (rec_sdk_api 7.1); all but the log level tune the device's host.
_VARIABLES = ("RECSDK_LOG_LEVEL", "MXREC_LOG_LEVEL", "RANK_TABLE_FILE", "CM_CHIEF_IP", "CM_CHIEF_PORT",
              "CM_CHIEF_DEVICE", "CM_WORKER_IP", "CM_WORKER_SIZE", "ASCEND_VISIBLE_DEVICES",
              "ASCEND_RT_VISIBLE_DEVICES", "TF_DEVICE", "AclTimeout", "HD_CHANNEL_SIZE",
              "KEY_PROCESS_THREAD_NUM", "MAX_UNIQUE_THREAD_NUM", "FAST_UNIQUE",
              "HOT_EMB_UPDATE_STEP", "USE_COMBINE_FAAE", "RECORD_KEY_COUNT", "SSD_SAVE_COMPACT_LEVEL", "USE_SHM_SWAP")


class Trace:
    """A recording that writes its report when the program is over."""

    def __init__(self, program: str):
        self._program = program
        self._root = os.path.dirname(os.path.abspath(program))
        self._recorder = Recorder(self._root)

    def begin(self) -> None:
        """Starts the recording; the stand-in must be installed."""
        self._recorder.start()

    def finish(self, stream: TextIO, error: Optional[BaseException] = None) -> None:
        """Ends the recording and writes the report; ``error`` is what the program ended with, if anything."""
        self._recorder.stop()
        stream.write("\n".join(self.lines(error)) + "\n")
        stream.flush()

    def lines(self, error: Optional[BaseException] = None) -> List[str]:
        """Returns the lines of the report; ``error`` as for :meth:`finish`."""
        cut_short = error is not None and not isinstance(error, SystemExit)
        contracts = binding.Contracts()
        calls = sorted(self._recorder.calls.values(), key=lambda call: call.name)
        misfits = [misfit for misfit in map(contracts.misfit, calls) if misfit is not None]
        misfits += binding.imports(contracts, self._program)
        lines = ["", "Migration report of %s, run as SDK generation %s" % (
            self._program, ConfigInitializer.generation), "=" * 72]
        if cut_short:
            lines += _wrapped("the program ended with %s: %s; this report covers what it did before that" % (
                type(error).__name__, " ".join(str(error).split())[:300]))
        lines += ["", "Calls (how often, from where first, and which SDK generation or npu_bridge release takes them;",
                  "of undated-A and undated-B only NPURunConfig is on record, for the rest they count as 2021-02)"]
        lines += _call_lines(contracts, calls) or ["  none"]
        lines += ["", "Settings"] + (_setting_lines(self._recorder, calls) or ["  none"])
        lines += ["", "What does not fit everywhere"]
        for misfit in misfits:
            lines.append("  %s (%s)" % (misfit.what, misfit.where))
            lines += ["    %s: %s" % item for item in sorted(misfit.reasons.items())]
        if not misfits:
            lines.append("  nothing: every call binds in G2 and G3 and in the releases of npu_bridge")
        lines += ["", "What differs on a device"]
        found = differences.find_all(self._recorder)
        for line in found or ["nothing that is known" if calls else "the program called nothing of the SDK"]:
            lines += _wrapped(line)
        return lines


def start(program: str) -> Trace:
    """Starts the recording of a program; see :class:`Trace`."""
    trace = Trace(program)
    trace.begin()
    return trace


def _call_lines(contracts: binding.Contracts, calls: List[Call]) -> List[str]:
    lines = []
    for call in calls:
        places = binding.PROFILES if call.origin.startswith(("npu_bridge", "hccl")) else binding.GENERATIONS
        fits = "TensorFlow's own" if call.name.startswith(_TENSORFLOW) else "not on record"
        if contracts.is_on_record(call):
            misfit = contracts.misfit(call)
            fits = " ".join("%s:%s" % (place, "no" if misfit and place in misfit.reasons else "yes")
                            for place in places)
        lines.append("  %-58s %5dx  %-24s %s" % (call.name, call.count, call.where, fits))
    return lines


def _setting_lines(recorder: Recorder, calls: List[Call]) -> List[str]:
    lines = []
    for call in calls:
        if call.name.rpartition(".")[2] in _SETTINGS and call.values:
            given = ", ".join("%s=%s" % (name, " | ".join(values)) for name, values in sorted(call.values.items()))
            lines += _wrapped("%s: %s" % (call.name.rpartition(".")[2], given))
    for what, values_by_name in (("ConfigInitializer.get_instance()", recorder.config_settings),
                                 ("a session's NpuOptimizer, without effect here", recorder.session_options)):
        if values_by_name:
            lines += _wrapped("%s: %s" % (what, ", ".join(
                "%s=%s" % (name, " | ".join(values)) for name, values in sorted(values_by_name.items()))))
    variables = ["%s=%s" % (name, os.environ[name]) for name in _VARIABLES if name in os.environ]
    if variables:
        lines += _wrapped("environment, of which only the log levels have an effect here: %s" % ", ".join(variables))
    return lines


def _wrapped(text: str) -> List[str]:
    lines, current = [], "  -"
    for word in text.split(" "):
        if len(current) + 1 + len(word) > _WIDTH:
            lines.append(current)
            current = "   "
        current += " " + word
    return lines + [current]

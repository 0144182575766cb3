"""Runs the app in this process and writes down every call that it makes of an SDK callable.

Usage: python -m tests.support.sdk_recorder GENERATION OUTPUT ARGUMENT...
"""
import functools
import inspect
import json
import sys

#: A call counts as the app's where the calling frame is in one of these packages.
CALLERS = ("estimator_app.", "input_fn.", "feature_specs.", "preprocessing.")
G3_ONLY = "rec_sdk_common"


def record(generation, output, arguments):
    """Runs ``python -m estimator_app ARGUMENTS`` on the stand-in of one SDK generation; returns the exit status."""
    import rec_sdk_cpu
    from rec_sdk_cpu import installer

    rec_sdk_cpu.install(generation=generation)
    if generation == "G2":
        for name in [name for name in sys.modules if name.split(".")[0] == G3_ONLY]:
            # None makes the import fail, as it does where the package is not installed.
            sys.modules[name] = None
    calls = []
    _wrap(installer.module_names(), calls)
    from estimator_app.cli import main
    status = main(arguments)
    with open(output, "w", encoding="utf-8") as stream:
        json.dump([dict(pairs) for pairs in sorted({tuple(sorted(call.items())) for call in calls})], stream, indent=1)
    return status


def _wrap(module_names, calls):
    classes = set()
    for module_name in module_names:
        module = sys.modules.get(module_name)
        for name, value in sorted(vars(module).items()) if module else ():
            if name.startswith("_") or not (getattr(value, "__module__", None) or "").startswith("rec_sdk_cpu."):
                continue
            if inspect.isfunction(value):
                # Under the name by which the app reaches it: the same function may have several.
                setattr(module, name, _recording(value, "%s.%s" % (module_name, name), calls, 0))
            elif inspect.isclass(value) and value not in classes:
                classes.add(value)
                _wrap_class(value, calls)


def _wrap_class(value, calls):
    own = vars(value)
    if "__new__" in own and "__init__" not in own:
        value.__new__ = staticmethod(_recording(value.__new__, _name(value), calls, 1))
    else:
        value.__init__ = _recording(own.get("__init__") or _inherited(value), _name(value), calls, 1)


def _inherited(owner):
    # What comes next depends on the instance: its class may have other bases as well.
    return lambda self, *args, **kwargs: super(owner, self).__init__(*args, **kwargs)


def _name(value):
    # The stand-in's modules mirror the real ones, below a package of their own.
    module = value.__module__.replace("rec_sdk_cpu.npu_bridge_modules.", "").replace("rec_sdk_cpu.", "")
    return "%s.%s" % (module, value.__qualname__)


def _recording(function, name, calls, bound):
    @functools.wraps(function)
    def call(*args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith(CALLERS):
            calls.append({"name": name, "positional": len(args) - bound, "keywords": ",".join(sorted(kwargs)),
                          "caller": caller})
        return function(*args, **kwargs)
    return call


if __name__ == "__main__":
    sys.exit(record(sys.argv[1], sys.argv[2], sys.argv[3:]))

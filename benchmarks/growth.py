"""How the training step grows: ``bash run_estimator.sh bench growth [--plot FILE]``.

Time per step against batch size, fields, tasks and experts, one at a time around the reference model (batch 512, 29
fields, 2 tasks, 8 experts), fed from memory, ours and the reference way in turn. ``--plot`` draws them.
"""
import sys
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

from benchmarks import _harness

CENTRE = {"batch size": 512, "fields": 29, "tasks": 2, "experts": 8}
SWEEPS: Tuple[Tuple[str, Tuple[int, ...]], ...] = (
    ("batch size", (32, 128, 512, 2048, 8192)), ("fields", (4, 16, 29, 64, 128)), ("tasks", (1, 2, 4, 8)),
    ("experts", (2, 4, 8, 16, 32)))
_QUICK = (("batch size", (4, 8)), ("tasks", (1,)))
_IDS_PER_FIELD = 20
_MEASURED_ROWS = 100000


def measure(sweeps: Sequence[Tuple[str, Sequence[int]]], pairs: int, rows: int, warm_up: int = 1,
            **centre: int) -> List[Dict[str, Any]]:
    """Measures all points.

    Args:
        sweeps: (what changes, its values).
        pairs: counted pairs per point.
        rows: about how many examples a measurement takes.
        warm_up: pairs before the counted ones.
        **centre: what the other sizes are, by the names of :data:`CENTRE` with underscores.

    Returns:
        A result per point, steps/s; the reference has 8 experts only and is left out elsewhere.
    """
    results = []
    for name, values in sweeps:
        for value in values:
            sizes = {**CENTRE, **{key.replace("_", " "): size for key, size in centre.items()}, name: value}
            results.append(dict(_point(sizes, pairs, rows, warm_up), changed=name, value=value))
    return results


def _point(sizes: Dict[str, int], pairs: int, rows: int, warm_up: int) -> Dict[str, Any]:
    from benchmarks import _app, _reference
    dataset = _app.definition(sizes["fields"], sizes["tasks"])
    num_ids, batch_size = _IDS_PER_FIELD * sizes["fields"], sizes["batch size"]
    batches = _app.random_batches(dataset, batch_size, num_ids, 8)
    steps = max(2, rows // batch_size // 4)
    sides = {"ours": _speed(_app.our_step(dataset, num_ids, batches, expert_num=sizes["experts"])[0], steps)}
    if sizes["experts"] == _reference.EXPERTS:
        sides["reference"] = _speed(_app.reference_step(dataset, num_ids, batches)[0], max(2, steps // 3))
    speeds = _harness.alternate(sides, pairs, warm_up)
    if "reference" in speeds:
        return _harness.compared("growth", "steps/s", speeds, **{key.replace(" ", "_"): size
                                                                for key, size in sizes.items()})
    return {"benchmark": "growth", "unit": "steps/s", "ours_best": max(speeds["ours"]),
            **{key.replace(" ", "_"): size for key, size in sizes.items()}}


def plot(results: Sequence[Dict[str, Any]], path: str) -> None:
    """Draws milliseconds per step against what changed, a panel each."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    names = list(dict.fromkeys(result["changed"] for result in results))
    figure, panels = pyplot.subplots(1, len(names), figsize=(3.2 * len(names), 2.8), squeeze=False)
    for panel, name in zip(panels[0], names):
        for way, style in (("ours", "o-"), ("reference", "s--")):
            points = [(result["value"], 1000.0 / result[way + "_best"]) for result in results
                      if result["changed"] == name and way + "_best" in result]
            panel.plot([x for x, _ in points], [y for _, y in points], style, label=way, markersize=4)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel(name)
        panel.grid(True, alpha=0.3)
    panels[0][0].set_ylabel("milliseconds per step")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _speed(step: Callable[[], Any], steps: int) -> Callable[[], float]:
    def measure_steps() -> float:
        for _ in range(min(steps, 5)):
            step()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        return steps / (time.perf_counter() - began)

    return measure_steps


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("growth", __doc__)
    parser.add_argument("--plot", default="", metavar="FILE", help="draw the results, PNG or SVG [path] (default: no)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        results = measure(_QUICK, 1, 16, 0, batch_size=4, fields=3)
    else:
        results = measure(SWEEPS, args.pairs, _MEASURED_ROWS)
    _harness.report(results, lambda result: "%s %d" % (result["changed"], result["value"]))
    if args.plot:
        plot(results, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

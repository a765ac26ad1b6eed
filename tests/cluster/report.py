"""What a run tells in the end, as text and as JSON."""
import json

from board import PHASES, quantile


def milliseconds(seconds):
    """For people."""
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


class Report:
    """Of a run that is over. `found`: records in the log."""

    def __init__(self, run, found):
        board, options = run.board, run.options
        self.facts = {
            "seed": options.seed,
            "agents": options.agents,
            "partitions": options.partitions,
            "records": {"sent": sum(board.sent), "acknowledged": sum(board.acknowledged), "in the log": found},
            "faults": run.campaign.counts() if run.campaign else {},
            "faults skipped": run.skipped,
            "events": run.campaign.events if run.campaign else [],
            "produce latency seconds": {},
            "clients": {name: {**run.facts[name], "errors": run.errors[name]} for name in sorted(run.facts)},
            "anomalies": {name: {"count": count, "examples": examples} for name, (count, examples) in run.anomalies.told().items()},
        }
        for index, phase in enumerate(PHASES):
            counts = board.latencies(index)
            told = {name: quantile(counts, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))}
            self.facts["produce latency seconds"][phase] = {"records": sum(counts), **told}

    def json(self):
        """All of it."""
        return json.dumps(self.facts, indent=1)

    def text(self):
        """What people ask for first."""
        facts, lines = self.facts, []
        counts = facts["records"]
        lines.append("records   " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
        struck = ", ".join(f"{name} {count}" for name, count in facts["faults"].items()) or "none"
        lines.append(f"faults    {struck} (seed {facts['seed']})")
        for name, reason in facts["faults skipped"].items():
            lines.append(f"skipped   {name}: {reason}")
        for phase, told in facts["produce latency seconds"].items():
            shown = ", ".join(f"{name} {milliseconds(told[name])}" for name in ("p50", "p99", "max"))
            lines.append(f"latency   {phase:<6} {shown} ({told['records']:,} records)")
        for name, told in facts["clients"].items():
            shown = [f"{key} {value}" for key, value in told.items() if key not in ("errors", "answers")]
            shown += [f"{error} × {count}" for error, count in told["errors"].items()]
            lines.append(f"{name:<12}{', '.join(shown) or 'no errors'}")
        for name, told in facts["anomalies"].items():
            lines.append(f"ANOMALY   {name}: {told['count']:,}")
            lines += [f"            {example}" for example in told["examples"]]
        if not facts["anomalies"]:
            lines.append("anomalies none: 0 lost, 0 duplicated, 0 reordered")
        return "\n".join(lines)

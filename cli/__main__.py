"""`dqn <verb>`: finds the verb's function and hands it the rest of the line."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple


class Verb(NamedTuple):
    """Where a verb's work is done."""

    module: str
    function: str
    extra: str
    """The extra to install where the module's imports are missing."""
    help: str


VERBS: Final = {
    "run": Verb("cli.run", "main", "dev", "train, export, serve and let agents live on it"),
    "serve": Verb("service.__main__", "main", "service", "serve the policies of a repository"),
    "record": Verb("recorder.__main__", "main", "recorder", "seal the log, watch rewards"),
    "train": Verb("training.__main__", "main", "training", "train a policy"),
    "evaluate": Verb("training.evaluate", "main", "training", "play episodes with a checkpoint"),
    "sweep": Verb("training.sweep", "main", "scale", "train with varied settings, find the best"),
    "report": Verb("training.report", "main", "scale", "what runs came to, with pictures"),
    "export": Verb("exporter.export", "main", "exporter", "make a checkpoint the next version"),
    "adopt": Verb("exporter.adopt", "main", "exporter", "serve what another library trained"),
    "retrain": Verb(
        "cli.retrain", "main", "exporter,recorder,client", "learn from the log, try what is better"
    ),
    "policies": Verb("cli.operate", "policies", "client", "what is served, and by whom"),
    "status": Verb("cli.status", "main", "client", "how all is, and what happened: one timeline"),
    "promote": Verb("cli.operate", "promote", "client", "make a version stable"),
    "rollback": Verb("cli.operate", "rollback", "client", "go back to an earlier version"),
    "push": Verb("cli.rollout", "push", "client", "have a version loaded, proven and warm"),
    "canary": Verb("cli.rollout", "canary", "client", "try a version on a share; watch the trial"),
    "shadow": Verb("cli.rollout", "shadow", "client", "let a version see traffic, not answer it"),
    "replay": Verb(
        "cli.replay", "main", "service,recorder", "what a version would have done on the log"
    ),
    "profile": Verb(
        "cli.profile", "main", "service,recorder", "arm drift alerts from what a version did live"
    ),
    "abort": Verb("cli.rollout", "abort", "client", "end the trial and the shadow"),
    "pause": Verb("cli.rollout", "pause", "client", "hold the trial at its share"),
    "resume": Verb("cli.rollout", "resume", "client", "let the trial go on"),
    "ledger": Verb("cli.ledger", "main", "client", "what happened; back up and restore it"),
    "pin": Verb("cli.operate", "pin", "client", "let the heuristic answer everything"),
    "unpin": Verb("cli.operate", "unpin", "client", "let the model answer again"),
    "freeze": Verb("cli.operate", "freeze", "client", "stop promotions"),
    "unfreeze": Verb("cli.operate", "unfreeze", "client", "allow promotions again"),
    "dataset": Verb("cli.dataset", "main", "recorder", "build, show, export, audit what is logged"),
    "spool": Verb("cli.spool", "main", "recorder", "empty or put away a spool; dead letters"),
    "doctor": Verb("cli.doctor", "main", "service,client", "look at everything a server needs"),
    "decisions": Verb("cli.decisions", "main", "recorder", "one decision, as it was kept"),
    "keys": Verb("cli.keys", "main", "service", "make a key and store its hash"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    name, *rest = arguments
    verb = VERBS.get(name)
    if verb is None:
        print(f"dqn: no verb {name!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        function = getattr(import_module(verb.module), verb.function)
    except ModuleNotFoundError as error:
        print(
            f"dqn {name}: {error.name} is not installed; "
            f"install the extra: pip install 'dqn-serving[{verb.extra}]'",
            file=sys.stderr,
        )
        return 2
    status: int = function(rest)
    return status


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(["usage: dqn <verb> [flags]   (dqn <verb> --help)", "", *lines])


if __name__ == "__main__":
    sys.exit(main())

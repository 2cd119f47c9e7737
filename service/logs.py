"""How the service logs: structured, to standard error, no observation in any line."""

import logging
import sys
import traceback

import structlog


def configure_logs(level: str, *, as_json: bool) -> None:
    """Set up structlog, and let what libraries log through the standard module come out alike."""
    severity = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    # uvicorn tells of every start and stop at INFO; the service does so itself.
    logging.basicConfig(level=max(severity, logging.WARNING), handlers=[handler], force=True)


def describe_failure(error: BaseException) -> str:
    """What failed and where, without its message: that may quote what a client sent.

    `ValueError in decide (service/faces/actions.py:91), in batch (…:40)`, the innermost place last.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = ", ".join(f"in {each.name} ({each.filename}:{each.lineno})" for each in frames)
    return f"{type(error).__name__} {places}".strip()

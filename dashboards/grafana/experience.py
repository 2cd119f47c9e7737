"""What becomes of decisions and rewards after they were given."""

from dashboards.grafana.panels import Panel, Query, graph


def experience() -> list[Panel]:
    """The row on the log."""
    return [
        graph(
            "Outcomes",
            "ops",
            "Rewards that agents report. None while decisions flow: training starves, so ask the "
            "agents. Invalid: the answer to the agent says why.",
            [
                Query(
                    "sum by (result) (rate(dqn_outcomes_total[$__rate_interval]))",
                    "{{result}}",
                )
            ],
        ),
        graph(
            "Records",
            "ops",
            "Written to the spool, and shipped to Redis. Shipped falls behind: see 'Redis'.",
            [
                Query(
                    "sum by (stage) (rate(dqn_records_total[$__rate_interval]))",
                    "{{stage}}",
                )
            ],
        ),
        graph(
            "Records refused",
            "ops",
            "Zero where all is well; what is refused is lost to training. RecordsDropped in the "
            "runbook says what each reason asks for.",
            [
                Query(
                    "sum by (reason) (rate(dqn_records_dropped_total[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
        ),
        graph(
            "Spool against its limit",
            "bytes",
            "Grows while Redis is away or there is none. At the limit nothing more is accepted: "
            "SpoolFullSoon in the runbook.",
            [
                Query("sum by (instance) (dqn_spool_bytes)", "{{instance}}"),
                Query("sum by (instance) (dqn_spool_limit_bytes)", "{{instance}} limit"),
            ],
        ),
        graph(
            "Free disk",
            "bytes",
            "Beneath the spool, which leaves a tenth of the disk alone: free some before.",
            [Query("min by (instance) (dqn_disk_free_bytes)", "{{instance}}")],
        ),
        graph(
            "Redis",
            "bool_on_off",
            "Off: nothing is lost while the spool has room. RedisDown in the runbook.",
            [Query("min by (instance) (dqn_redis_up)", "{{instance}}")],
        ),
    ]

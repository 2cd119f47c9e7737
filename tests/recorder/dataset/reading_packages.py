"""Run by the rivals' Python: reads what was exported with minari and d3rlpy, and tells as JSON.

python reading_packages.py <minari root> <dataset id> <table>
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(root: str, dataset_id: str, *tables: str) -> None:
    os.environ["MINARI_DATASETS_PATH"] = root
    found = {"minari": read_minari(dataset_id)}
    for table in tables:
        found["table"] = read_table(Path(table))
    # Both packages tell things on the way; the last line is the answer.
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def read_minari(dataset_id: str) -> dict[str, Any]:
    """What minari finds, and whether d3rlpy learns from it."""
    import minari  # type: ignore[import-not-found]
    import numpy as np

    dataset = minari.load_dataset(dataset_id)
    episodes = list(dataset.iterate_episodes())
    columns = {
        "observations": np.concatenate([each.observations[:-1] for each in episodes]),
        "actions": np.concatenate([each.actions for each in episodes]),
        "rewards": np.concatenate([each.rewards for each in episodes]),
        "terminals": np.concatenate([each.terminations for each in episodes]),
        "timeouts": np.concatenate([each.truncations for each in episodes]),
    }
    return {
        "total_episodes": dataset.total_episodes,
        "total_steps": dataset.total_steps,
        "space": str(dataset.action_space),
        "observation_dtype": str(episodes[0].observations.dtype),
        "observations": [each.observations.tolist() for each in episodes],
        "actions": [each.actions.tolist() for each in episodes],
        "rewards": [each.rewards.tolist() for each in episodes],
        "terminations": [each.terminations.tolist() for each in episodes],
        "truncations": [each.truncations.tolist() for each in episodes],
        "propensities": [each.infos["action_probability"].tolist() for each in episodes],
        "behaviours": [each.infos["behaviour"].tolist() for each in episodes],
        "learned": learn(columns),
    }


def read_table(path: Path) -> dict[str, Any]:
    """The table as d3rlpy's dataset, as one would make it of any table of these columns."""
    import numpy as np
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    rows.sort(key=lambda row: (row["mdp_id"], row["sequence_number"]))
    columns = {
        "observations": np.array(
            [[value for _, value in sorted(row["state_features"])] for row in rows], np.float32
        ),
        "actions": np.array([int(row["action"]) for row in rows]),
        "rewards": np.array([row["reward"] for row in rows]),
        "terminals": np.array([row["terminated"] for row in rows]),
        "timeouts": np.array(
            [
                not row["terminated"]
                and (place + 1 == len(rows) or rows[place + 1]["mdp_id"] != row["mdp_id"])
                for place, row in enumerate(rows)
            ]
        ),
    }
    return {"rows": rows, "learned": learn(columns)}


def learn(columns: dict[str, Any]) -> dict[str, Any]:
    """d3rlpy's view of the episodes, and twenty updates of its discrete CQL."""
    import d3rlpy  # type: ignore[import-not-found]
    import numpy as np

    dataset = d3rlpy.dataset.MDPDataset(**columns)
    algorithm = d3rlpy.algos.DiscreteCQLConfig(batch_size=4).create(device="cpu:0")
    algorithm.fit(
        dataset,
        n_steps=20,
        n_steps_per_epoch=20,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    actions = algorithm.predict(columns["observations"][:3])
    return {
        "episodes": dataset.size(),
        "transitions": dataset.transition_count,
        "returns": [float(np.sum(each.rewards)) for each in dataset.episodes],
        "terminated": [bool(each.terminated) for each in dataset.episodes],
        "actions": [int(action) for action in actions],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])

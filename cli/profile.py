"""`dqn profile`: arm the alerts of a version whose bundle has no profile, from what it did live."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
from rich.console import Console
from rich.progress import track

from cli.ago import ago
from cli.live_episodes import LiveEpisodes, closed_episodes, shards_since
from cli.operate import change_parser, with_client
from contract.bundle import BundleError, read_bundle
from contract.declaration import DeclarationError, read_declaration
from contract.drift_reference import MIN_EPISODES
from contract.manifest import Profile
from contract.profile import sum_up
from dqn_client import Client
from recorder.dataset.quarantine import read_quarantines
from recorder.dataset.store import DatasetStore
from recorder.settings import RecorderSettings
from recorder.shards import ShardError
from service.inference.proof import prove

_MOST_STEPS: Final = 200_000
_GOOD_STEPS: Final = 20_000
"""Below it limits are wide: small changes are seen late."""


class ProfileError(Exception):
    """The log does not hold what a profile is made of."""


def main(arguments: Sequence[str]) -> int:
    """Make a profile of logged episodes and hand it to the server; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return with_client(options, lambda client: _arm(client, options))
    except (BundleError, DeclarationError, ShardError, ProfileError) as error:
        print(f"dqn profile: {error}", file=sys.stderr)
        return 1


def _arm(client: Client, options: argparse.Namespace) -> None:
    version = options.version or client.get(f"/v1/policies/{options.policy}")["stable"]
    if version is None:
        raise ProfileError(f"{options.policy} has no stable version, and none is named")
    since = time.time() - options.from_live
    profile = profile_from_log(options.data, options.policy, version, since)
    answer = client.change(
        options.policy,
        "profile",
        {
            "version": version,
            "why": options.why,
            "key": uuid4().hex,
            "profile": msgspec.json.decode(profile.model_dump_json()),
        },
    )
    if options.json:
        print(msgspec.json.encode(answer).decode())
        return
    for sentence in _sentences(options.policy, version, profile, answer["entry"]["position"]):
        print(sentence)


def profile_from_log(data: Path, policy: str, version: int, since: float) -> Profile:
    """The profile of what a version did since a time (Unix seconds).

    Raises:
        ProfileError: There are fewer whole episodes than drift can be judged by.
        BundleError: The version may not serve.
        DeclarationError: The policy is not declared here.
        ShardError: A shard is damaged.
    """
    model = prove(read_bundle(data / "policies" / policy / str(version)))
    settings = RecorderSettings(data=data)
    quarantines = read_quarantines(DatasetStore(settings.dataset_root), policy)
    declared = read_declaration(data / "policies" / policy)
    found = LiveEpisodes(
        model, _MOST_STEPS, declared.audit, [each for each in quarantines if each.is_active]
    )
    console = Console(stderr=True)
    shards = track(
        shards_since(settings.shards_folder, policy, since),
        "reading the log",
        console=console,
        disable=not console.is_terminal,
    )
    for episode, steps in closed_episodes(shards, policy, settings.join_rules):
        if episode.started_at >= since:
            found.add(episode, steps)
    if len(found) < MIN_EPISODES:
        others = ", ".join(f"{count} {why}" for why, count in found.left_out.most_common())
        raise ProfileError(
            f"{policy} {version}: expected {MIN_EPISODES} whole episodes in the log, "
            f"found {len(found)}{others and f' (left out: {others})'}"
        )
    return sum_up(found.played(), None)


def _sentences(policy: str, version: int, profile: Profile, position: int) -> list[str]:
    returns, drift = profile.episode_return, profile.drift
    watched = (
        {}
        if drift is None
        else {
            "observation elements": len(drift.observations),
            "features": len(drift.features),
            "Q-values": len(drift.q_values),
        }
    )
    told = [
        f"profile of {policy} {version}: {returns.count} episodes of {profile.num_observations} "
        f"steps, mean return {returns.mean:.4g} (sd {returns.sd:.3g}), "
        f"largest |Q| {profile.absolute_q_maximum:.4g}",
        "armed: drift of "
        + ", ".join(f"{count} {what}" for what, count in watched.items() if count)
        + f", returns and rewards; ledger entry {position}",
    ]
    if profile.num_observations < _GOOD_STEPS:
        told.append(
            f"{profile.num_observations} steps are few: small changes will be seen late; "
            f"run it again with {_GOOD_STEPS} or more"
        )
    return told


def _parser() -> argparse.ArgumentParser:
    parser = change_parser(
        "profile", "Judge a version whose bundle has no profile by what it did live."
    )
    parser.add_argument(
        "--from-live",
        type=ago,
        required=True,
        metavar="7d",
        help="how far back in the log to look: a time in which all was well",
    )
    parser.add_argument("--version", type=int, help="the stable one where left out")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the service's folder")
    return parser

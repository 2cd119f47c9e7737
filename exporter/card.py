"""`card.md`: what a version is and how good, for the person who decides whether it may serve."""

from contract.declaration import PolicyDeclaration
from contract.manifest import Distribution, Manifest, Parity, Profile


def render_card(
    manifest: Manifest,
    declaration: PolicyDeclaration,
    profile: Profile,
    parity: Parity,
    possible_q: float | None,
) -> str:
    """The card as Markdown.

    Args:
        manifest: All that the version promises.
        declaration: What the policy is in all its versions.
        profile: The manifest's.
        parity: The manifest's.
        possible_q: The largest |Q| that rewards and discount allow.
    """
    sections = (
        _what(manifest, declaration),
        _how_good(manifest, profile),
        _how_it_behaves(declaration, profile),
        _q_values(manifest, profile, possible_q),
        _training(manifest),
        _proof(manifest, parity),
        _next_steps(manifest),
    )
    return "\n".join(sections)


def _what(manifest: Manifest, declaration: PolicyDeclaration) -> str:
    observation = declaration.observation
    labels = _labels(declaration)
    masked = " Requests may say which actions are legal." if declaration.actions.masked else ""
    return f"""\
# {manifest.policy} v{manifest.version}

A DQN policy for {manifest.lineage.environment}: it takes observations of shape \
{list(observation.shape)} ({observation.dtype}) as the environment gives them, and answers with \
one of {declaration.actions.count} actions ({", ".join(labels)}).{masked}
"""


def _how_good(manifest: Manifest, profile: Profile) -> str:
    floor = "not measured" if manifest.floor is None else f"{manifest.floor:.1f}"
    warning = ""
    if manifest.floor is not None and manifest.floor > profile.episode_return.mean:
        warning = "\n**The heuristic does better than this version.**\n"
    return f"""\
## How good

| | mean | sd | least | median | most |
|---|---|---|---|---|---|
{_row("episode return", profile.episode_return)}
{_row("episode length, steps", profile.episode_length)}
{_row("reward of a step", profile.reward)}
{_row("max Q", profile.max_q)}

Greedy, over {profile.episode_return.count:,} whole episodes in the training environment, \
{profile.num_observations:,} observations. Returns and rewards are the environment's own. \
`{manifest.heuristic_behaviour}`, which answers when the model cannot, has a mean return of \
**{floor}**: the floor.
{warning}"""


def _how_it_behaves(declaration: PolicyDeclaration, profile: Profile) -> str:
    shares = "\n".join(
        f"| {label} | {frequency:.1%} | {deciles[0]:.4g} | {deciles[4]:.4g} | {deciles[8]:.4g} |"
        for label, frequency, deciles in zip(
            _labels(declaration), profile.action_frequencies, profile.q_value_deciles, strict=True
        )
    )
    return f"""\
## How it behaves

| action | chosen | Q, lowest decile | median | highest |
|---|---|---|---|---|
{shares}

Drift is judged by the deciles of {len(profile.observation_deciles)} observation elements, \
{len(profile.feature_deciles)} features and {len(profile.q_value_deciles)} Q-values.
"""


def _q_values(manifest: Manifest, profile: Profile, possible_q: float | None) -> str:
    if possible_q is None or manifest.q_bound is None:
        bound = "Rewards and discount set no bound on |Q|, so none is served by."
    else:
        bound = (
            f"Rewards and discount allow |Q| up to {possible_q:.4g}. Beyond "
            f"{manifest.q_bound:.4g} the heuristic answers."
        )
    met = profile.absolute_q_maximum
    warning = ""
    if possible_q is not None and met > possible_q:
        warning = f" **The network overestimates, by up to {met / possible_q - 1:.0%}.**"
    return f"""\
Training and profile met |Q| up to {met:.4g}. {bound}{warning}
"""


def _training(manifest: Manifest) -> str:
    lineage = manifest.lineage
    transform = manifest.reward_transform
    clip = "not clipped" if transform.clip is None else f"clipped to ±{transform.clip:g}"
    facts = {
        "made by": lineage.source,
        "parent": "none" if manifest.parent is None else f"v{manifest.parent}",
        "environment steps": "unknown"
        if lineage.training_steps is None
        else f"{lineage.training_steps:,}",
        "seed": lineage.seed,
        "discount": f"{manifest.discount:g}, {manifest.n_step}-step",
        "rewards": f"{clip}, times {transform.scale:g}",
        "dataset": lineage.dataset_id or "none",
        "checkpoint": f"SHA-256 {lineage.checkpoint_sha256}",
        "source code": lineage.git_revision or "unknown",
        "exported": lineage.created_at,
        "versions": ", ".join(f"{name} {version}" for name, version in lineage.versions.items()),
    }
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())
    return f"""\
## How it was trained

| | |
|---|---|
{rows}

The whole configuration is in `manifest.json` under `lineage`.
"""


def _proof(manifest: Manifest, parity: Parity) -> str:
    batches = ", ".join(map(str, parity.batches))
    return f"""\
## What was proven

The graph (ONNX opset {manifest.opset}) answers as the network does at batches of {batches}: \
Q-values differ by at most {parity.max_q_difference:.1e} of max(1, |Q|), \
{parity.actions_differing} actions differ, {parity.near_ties} rows are near-ties. It was read back \
from disk and held to its hashes, its golden batch and its declaration.
"""


def _next_steps(manifest: Manifest) -> str:
    return f"""\
## To let it serve

`dqn canary` gives v{manifest.version} a share of the episodes beside the version that serves, \
`dqn promote` makes it the stable one, and `dqn rollback` brings the one before back. Each takes \
`--why`, which stays in the ledger.
"""


def _row(name: str, sample: Distribution) -> str:
    return (
        f"| {name} | {sample.mean:.4g} | {sample.sd:.4g} | {sample.minimum:.4g} "
        f"| {sample.deciles[4]:.4g} | {sample.maximum:.4g} |"
    )


def _labels(declaration: PolicyDeclaration) -> tuple[str, ...]:
    return declaration.actions.labels or tuple(map(str, range(declaration.actions.count)))

"""`card.md` of an adopted version: what it is, what was proven, and what is not armed."""

from contract.declaration import PolicyDeclaration
from contract.manifest import Manifest, Parity
from exporter.adoption.measure import From
from exporter.adoption.preparation import Preparation


def render_card(
    manifest: Manifest,
    declaration: PolicyDeclaration,
    preparation: Preparation,
    parity: Parity,
    *,
    measured_on: From,
    has_reference: bool,
) -> str:
    """The card as Markdown.

    Args:
        manifest: All that the version promises.
        declaration: What the policy is in all its versions.
        preparation: What the graph does before the network.
        parity: The manifest's.
        measured_on: What the profile is made from.
        has_reference: Whether the library's own Q-values were at hand.
    """
    return "\n".join(
        (
            _what(manifest, declaration, preparation),
            _behaviour(manifest, measured_on),
            _proof(manifest, parity, has_reference=has_reference),
            f"""\
## To let it serve

`dqn promote {manifest.policy} {manifest.version} --why …` makes it the stable version, with
`--first` where it is the policy's first. Each change takes `--why`, which stays in the ledger.
""",
        )
    )


def _what(manifest: Manifest, declaration: PolicyDeclaration, preparation: Preparation) -> str:
    observation = declaration.observation
    labels = declaration.actions.labels or tuple(map(str, range(declaration.actions.count)))
    lineage = manifest.lineage
    facts = {
        "adopted from": lineage.config["library"],
        "file": f"SHA-256 {lineage.checkpoint_sha256}",
        "steps trained": "unknown" if lineage.training_steps is None else lineage.training_steps,
        "discount": f"{manifest.discount:g}, {manifest.n_step}-step",
        "frames": _frames(preparation),
        "observations normalised": "no"
        if preparation.normalisation is None
        else f"by VecNormalize's statistics, clipped to ±{preparation.normalisation.clip:g}",
        "adopted": lineage.created_at,
    }
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())
    return f"""\
# {manifest.policy} v{manifest.version}

A policy that was trained elsewhere: it takes observations of shape {list(observation.shape)} \
({observation.dtype}) and answers with one of {declaration.actions.count} actions \
({", ".join(labels)}).

| | |
|---|---|
{rows}
"""


def _frames(preparation: Preparation) -> str:
    stack = preparation.observation.frame_stack
    layout = preparation.layout or "not pictures"
    if stack == 1:
        return f"{layout}, not stacked here"
    return (
        f"{layout}, {stack} stacked, the first filled with {preparation.observation.first_frames}"
    )


def _behaviour(manifest: Manifest, measured_on: From) -> str:
    profile = manifest.profile
    if profile is None:
        return """\
## How it behaves

Not known: nothing was given to profile it with. **Alerts on reward, on Q-values beyond training and
on drift are not armed** for this version, and its canary has no floor. Adopt it with
`--environment`, or with `--samples` that hold rewards, to arm them.
"""
    floor = "not measured" if manifest.floor is None else f"{manifest.floor:.4g}"
    where = {
        "environment": f"greedy in {manifest.lineage.environment}",
        "samples": "in the samples that were given as the policy's own",
        "nothing": "",
    }[measured_on]
    warning = ""
    if manifest.floor is not None and manifest.floor > profile.episode_return.mean:
        warning = "\n**The heuristic does better than this version.**\n"
    return f"""\
## How it behaves

Mean return {profile.episode_return.mean:.4g} (sd {profile.episode_return.sd:.4g}) over \
{profile.episode_return.count:,} whole episodes, {where}; |Q| up to \
{profile.absolute_q_maximum:.4g}. The heuristic's mean return is **{floor}**: the floor.
{warning}
Training itself was not seen: what it met beyond these episodes is not in the profile.
"""


def _proof(manifest: Manifest, parity: Parity, *, has_reference: bool) -> str:
    batches = ", ".join(map(str, parity.batches))
    against = (
        "It was also held to Q-values that the library itself gave."
        if has_reference
        else "The library itself was not asked: `--reference` would hold the graph to its answers."
    )
    return f"""\
## What was proven

The graph (ONNX opset {manifest.opset}) answers as the source does at batches of {batches}: \
Q-values differ by at most {parity.max_q_difference:.1e} of max(1, |Q|), \
{parity.actions_differing} actions differ, {parity.near_ties} rows are near-ties. {against}
"""

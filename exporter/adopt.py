"""A policy that was trained elsewhere becomes the next version of a policy, in one call."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from pydantic import ValidationError
from pydantic_settings import CliApp
from rich.console import Console

from contract.bundle import Bundle, BundleError, Golden, versions_in
from contract.declaration import DeclarationError, PolicyDeclaration, legal_actions
from contract.manifest import Lineage, Manifest, Parity, RewardTransform
from exporter.adoption.card import render_card
from exporter.adoption.config import AdoptConfig
from exporter.adoption.declare import choose_preparation, declare
from exporter.adoption.graph import serving_graph
from exporter.adoption.measure import draw_observations, in_batches, measure, read_observations
from exporter.adoption.network import network_graph, network_q_values
from exporter.adoption.preparation import Preparation, prepare
from exporter.adoption.reading import read_file, read_source
from exporter.adoption.source import NETWORK_INPUT, NETWORK_OUTPUT, AdoptionError, Source
from exporter.opset import read_opset
from exporter.publish import publish
from exporter.triton import triton_config
from exporter.verify import PARITY_BATCHES, Masks, ParityError, check_parity
from service.inference.policy import Decided, Policy, open_session
from service.inference.proof import prove_in_child

Say = Callable[[str], None]
Observations = npt.NDArray[Any]
QValues = Callable[[Observations], npt.NDArray[np.float32]]

GOLDEN_ROWS: Final = 16
PARITY_ROWS: Final = 7 * max(PARITY_BATCHES)
"""Fills the batches of every size to the last row."""
_PACKAGES: Final = ("onnx", "onnxruntime")


def adopt(config: AdoptConfig, say: Say = lambda _: None) -> Path:
    """Make a file of another library the next version of a policy; returns the version's folder.

    Nothing is left in the repository unless everything was stated, measured and proven.

    Args:
        config: What to adopt, and what its file does not say.
        say: Told what is being done, a few words each time.

    Raises:
        AdoptionError: The file cannot be adopted, or not by what was stated.
        DeclarationError: The policy is declared otherwise, or impossibly.
        ParityError: The graph does not answer as the source does.
        BundleError: The bundle may not serve.
        OSError: The repository cannot be written.
    """
    say("reading the file in a process of its own")
    content = read_file(config.source)
    source = read_source(content, config.kind, config.q_output)
    return adopt_source(config, source, sha256(content).hexdigest(), say)


def adopt_source(
    config: AdoptConfig, source: Source, source_sha256: str, say: Say = lambda _: None
) -> Path:
    """Make what was read the next version; returns the version's folder, and raises as `adopt`."""
    policy_directory = config.repository / config.policy
    declaration = declare(config, source, policy_directory)
    preparation = choose_preparation(config, source, declaration.observation)

    say("building the graph")
    network = source.graph
    if source.network is not None:
        network = network_graph(source.network, preparation.input_shape)
    if network is None:
        raise AdoptionError("the file holds no network")
    model = serving_graph(network, preparation, declaration.actions)
    proto = onnx.load_model_from_string(model)
    manifest = _manifest(
        config,
        source,
        declaration,
        version_number=max(versions_in(policy_directory), default=0) + 1,
        opset=read_opset(proto),
        source_sha256=source_sha256,
    )
    asked = _source_q_values(source, network, preparation)
    drawn = draw_observations(declaration.observation, config.seed)
    golden = Golden(drawn[:GOLDEN_ROWS], _checked(asked, drawn[:GOLDEN_ROWS], declaration))

    say("trying the graph in a process of its own")
    asyncio.run(prove_in_child(Bundle(manifest, "", model, golden)))
    policy = Policy(manifest, open_session(model))

    say("measuring what it does")
    measured = measure(config, declaration, policy)

    say("holding the graph to its source")
    rows = _spread(measured.observations, PARITY_ROWS)
    parity = _check_parity(asked, policy, rows, config.seed)
    if config.reference is not None:
        _check_reference(config.reference, policy)

    say("writing and proving the bundle")
    manifest = manifest.model_copy(
        update={"parity": parity, "profile": measured.profile, "floor": measured.floor}
    )
    golden_observations = _spread(measured.observations, GOLDEN_ROWS)
    return publish(
        policy_directory,
        declaration,
        manifest,
        model=model,
        golden=Golden(golden_observations, asked(golden_observations)),
        card=render_card(
            manifest,
            declaration,
            preparation,
            parity,
            measured_on=measured.source,
            has_reference=config.reference is not None,
        ),
        triton_config=triton_config(config.policy, proto),
    )


def main(arguments: Sequence[str]) -> int:
    """Run `dqn adopt`. Returns the exit status: 2 for wrong usage, 1 where it was refused."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    try:
        config = CliApp.run(AdoptConfig, cli_args=list(arguments))
    except ValidationError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    try:
        with console.status("adopting") as status:
            directory = adopt(config, status.update)
    except (AdoptionError, BundleError, DeclarationError, ParityError, OSError) as error:
        console.print(f"refused: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    Console().print(f"adopted {config.policy} to {directory}", highlight=False, soft_wrap=True)
    return 0


def _manifest(
    config: AdoptConfig,
    source: Source,
    declaration: PolicyDeclaration,
    *,
    version_number: int,
    opset: int,
    source_sha256: str,
) -> Manifest:
    facts = source.facts
    discount = config.discount or facts.discount
    if discount is None:
        raise AdoptionError(
            "the file does not say the discount it was trained with, without which Q-values and "
            "returns cannot be compared: state --discount (0.99 by most libraries' default)"
        )
    if facts.discount is not None and config.discount not in (None, facts.discount):
        raise AdoptionError(f"the file says discount {facts.discount}, stated is {config.discount}")
    return Manifest(
        policy=config.policy,
        version=version_number,
        observation=declaration.observation,
        actions=declaration.actions,
        opset=opset,
        discount=discount,
        n_step=config.n_step or facts.n_step or 1,
        reward_transform=RewardTransform(clip=config.reward_clip, scale=config.reward_scale),
        q_bound=config.q_bound,
        heuristic_behaviour=declaration.heuristic.behaviour,
        lineage=Lineage(
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            source="adopt",
            environment=config.environment,
            seed=facts.seed,
            config={"kind": source.kind, "library": facts.library},
            checkpoint_sha256=source_sha256,
            versions={name: version(name) for name in _PACKAGES},
            training_steps=facts.training_steps,
        ),
        sha256={},
    )


def _source_q_values(source: Source, network: bytes, preparation: Preparation) -> QValues:
    """What the source itself says of raw observations: not by way of the graph that is served."""
    if source.network is not None:
        layers = source.network
        return lambda rows: in_batches(
            lambda part: network_q_values(layers, prepare(preparation, part)), rows
        )
    session = open_session(network)
    dtype = source.facts.dtype or "float32"

    def ask(rows: Observations) -> npt.NDArray[np.float32]:
        inputs = prepare(preparation, rows).astype(dtype)
        # One at a time, which a batch axis that was frozen cannot spoil.
        answers = [session.run([NETWORK_OUTPUT], {NETWORK_INPUT: row[None]})[0] for row in inputs]
        return np.concatenate(answers)

    return ask


def _checked(
    asked: QValues, observations: Observations, declaration: PolicyDeclaration
) -> npt.NDArray[np.float32]:
    """The source's Q-values of a few observations, if they are any."""
    try:
        q_values = asked(observations)
    except (RuntimeError, ValueError) as error:
        raise AdoptionError(
            f"the network does not take observations of {list(declaration.observation.shape)}: "
            f"{str(error).splitlines()[0][:300]}"
        ) from error
    expected = (len(observations), declaration.actions.count)
    if q_values.shape != expected:
        raise AdoptionError(f"the network gives {q_values.shape}, expected {expected}")
    if not np.isfinite(q_values).all():
        raise AdoptionError("the network gives Q-values that are not finite within the bounds")
    return q_values


def _check_parity(asked: QValues, policy: Policy, observations: Observations, seed: int) -> Parity:
    actions = policy.manifest.actions
    masks = None
    if actions.masked:
        rng = np.random.default_rng(seed)
        masks = rng.random((len(observations), actions.count)) < 0.5
        masks[np.arange(len(masks)), rng.integers(actions.count, size=len(masks))] = True

    def decide(rows: Observations, given: Masks | None) -> Decided:
        q_values = asked(rows)
        legal = legal_actions(given, *q_values.shape)
        return Decided(np.where(legal, q_values, -np.inf).argmax(axis=1), q_values)

    return check_parity(decide, policy.decide, observations, masks)


def _check_reference(path: Path, policy: Policy) -> None:
    """Hold the served graph to what the library itself said."""
    spec = policy.manifest.observation
    found = read_observations(path, spec, ("observations", "q_values"))
    expected = found.get("q_values")
    count = policy.manifest.actions.count
    if expected is None or expected.shape[1:] != (count,):
        raise AdoptionError(f"{path}: expected q_values of [N, {count}]")
    rows = np.resize(np.arange(len(expected)), max(len(expected), max(PARITY_BATCHES)))
    told = Decided(expected.argmax(axis=1)[rows], expected.astype(np.float32)[rows])
    try:
        check_parity(lambda *_: told, policy.decide, found["observations"][rows])
    except ParityError as error:
        raise ParityError(
            f"{error}: the graph answers as the file's weights do, but not as {path} says: look at "
            "image layout, frame stack, normalisation and dtype"
        ) from error


def _spread(observations: Observations, rows: int) -> Observations:
    """Some observations, from the first to the last at equal distances, [rows, *shape]."""
    return observations[np.linspace(0, len(observations) - 1, rows).astype(np.int64)]

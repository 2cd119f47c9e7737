import msgspec
import numpy as np
import pytest

from contract.declaration import ActionSpec, ObservationSpec
from contract.manifest import (
    ManifestError,
    Parity,
    RewardTransform,
    decode_manifest,
    encode_manifest,
)
from tests.builders import declaration, manifest, profile


def test_manifest_gives_back_what_was_written() -> None:
    written = manifest(
        declaration(observation=ObservationSpec(shape=(2,), low=-np.inf, high=(1.5, np.inf))),
        profile=profile(),
        parity=Parity(batches=(1, 7, 64), max_q_difference=1e-6, actions_differing=0, near_ties=2),
        reward_transform=RewardTransform(clip=1.0, scale=0.1),
        parent=3,
        version=4,
    )
    assert decode_manifest(encode_manifest(written)) == written


def test_manifest_is_laid_out_for_a_reader_of_diffs() -> None:
    content = encode_manifest(manifest())
    assert content.startswith(b'{\n  "format_version": 1,\n  "policy": "cartpole",\n')
    assert content.endswith(b"}\n")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 2, "format_version 2, this release reads 1"),
        ("policy", "../etc", "policy: .*pattern.*, found '../etc'"),
        ("policy", "a\nb", "policy: .*pattern"),
        ("version", 0, "version: .* equal to 1, found 0"),
        ("discount", 1.5, "discount: .* equal to 1, found 1.5"),
        ("discount", 0, "discount: .* greater than 0, found 0"),
        ("n_step", 0, "n_step"),
        ("num_features", 65, "num_features: .* equal to 64, found 65"),
        ("q_bound", -1, "q_bound"),
        ("floor", "Infinity", "floor: .* finite number, found 'Infinity'"),
        ("sha256", ["x"], "sha256: .* dictionary"),
        ("actions", {"count": 2, "surprise": 1}, "actions.surprise: Extra inputs"),
    ],
)
def test_impossible_manifest_is_refused_by_name(field: str, value: object, message: str) -> None:
    document = msgspec.json.decode(encode_manifest(manifest())) | {field: value}
    with pytest.raises(ManifestError, match=f"manifest.json: {message}"):
        decode_manifest(msgspec.json.encode(document))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_a_manifest_error(content: bytes) -> None:
    with pytest.raises(ManifestError):
        decode_manifest(content)


def test_bundle_must_agree_with_what_the_policy_declares() -> None:
    promised = manifest()
    promised.check_declaration(declaration(q_bound=3.0))
    with pytest.raises(ManifestError, match=r"cartpole v1: actions .*count=3.*declares .*count=2"):
        manifest(actions=ActionSpec(count=3)).check_declaration(declaration())
    with pytest.raises(ManifestError, match=r"observation .*shape=\(4,\).*declares .*shape=\(5,\)"):
        promised.check_declaration(declaration(observation=ObservationSpec(shape=(5,))))


def test_rewards_are_clipped_before_they_are_scaled() -> None:
    transform = RewardTransform(clip=2.0, scale=0.5)
    assert [transform.apply(reward) for reward in (-8.0, 1.0, 8.0)] == [-1.0, 0.5, 1.0]
    assert RewardTransform().apply(-8.0) == -8.0

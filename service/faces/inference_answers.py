"""Answers of the Open Inference Protocol: tensors, and who chose in the parameters.

A heuristic's answer is a normal 200. Its rows have no Q-values, and the protocol has no word for
that: a typed client fails on a null, NaN is never served, and a client that takes the argmax would
act on zeros. So the row says 0 for the action that was chosen and -1 for the others, and the
response's `source` says that the model did not.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from contract.manifest import ACTIONS
from contract.records import AnsweredBy
from service.faces.inference_compression import compress
from service.faces.inference_tensors import OutputTensor, encode_outputs
from service.inference.questions import Answer
from service.inference.served import ServedPolicy
from service.messages import JSON, OCTET_STREAM, Reply


class InferResponse(msgspec.Struct, omit_defaults=True):
    """Actions and Q-values, and in the parameters who chose them."""

    model_name: str
    id: str
    parameters: dict[str, str]
    """`decision_id`, and `source`, `reason`, `variant`, `version`: one word where it fits all rows,
    else one a row with commas between."""
    outputs: list[OutputTensor]
    model_version: str | None = None
    """Of the first row; left out while no version serves."""


_encode: Final = msgspec.json.Encoder().encode


def answer_reply(
    served: ServedPolicy,
    answer: Answer,
    decision_id: str,
    request_id: str,
    binary_outputs: dict[str, bool],
    accept_encoding: bytes | None,
) -> Reply:
    """The reply with the wanted outputs, in order; `binary_outputs` says which are bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in binary_outputs:
        if name == ACTIONS:
            arrays[name] = np.array(answer.actions, dtype=np.int64)
        else:
            arrays[name] = q_values_of(answer, served.declaration.actions.count)
    outputs, blobs = encode_outputs(arrays, binary_outputs.__getitem__)
    first = answer.answered_by[0 if answer.index is None else answer.index[0]]
    response = InferResponse(
        served.name,
        request_id,
        {"decision_id": decision_id} | _provenance(answer),
        outputs,
        None if first.version is None else str(first.version),
    )
    document = _encode(response)
    headers: tuple[tuple[str, str], ...] = ()
    if blobs:
        headers = (("inference-header-content-length", str(len(document))),)
    body, encoding = compress(document + blobs, accept_encoding)
    if encoding is not None:
        headers = (*headers, ("content-encoding", encoding))
    return Reply(200, body, OCTET_STREAM if blobs else JSON, headers)


def q_values_of(answer: Answer, num_actions: int) -> npt.NDArray[np.float32]:
    """The Q-values [N, num_actions]; in a heuristic's row the largest is that of its action."""
    if answer.q_values is not None and np.isfinite(answer.q_values).all():
        return answer.q_values
    rows = len(answer.actions)
    instead = np.full((rows, num_actions), -1.0, dtype=np.float32)
    instead[np.arange(rows), answer.actions] = 0.0
    if answer.q_values is None:
        return instead
    return np.where(
        np.isfinite(answer.q_values).all(axis=1, keepdims=True), answer.q_values, instead
    )


def _provenance(answer: Answer) -> dict[str, str]:
    entries = [_words(entry) for entry in answer.answered_by]
    if answer.index is None:
        return entries[0]
    return {name: ",".join(entries[entry][name] for entry in answer.index) for name in entries[0]}


def _words(entry: AnsweredBy) -> dict[str, str]:
    version = "none" if entry.version is None else str(entry.version)
    return {
        "source": entry.source,
        "reason": entry.reason or "none",
        "variant": entry.variant,
        "version": version,
    }

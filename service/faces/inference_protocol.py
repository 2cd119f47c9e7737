"""`POST /v2/models/{model}/infer`: actions by the Open Inference Protocol, for its own clients.

A model is a policy. Inputs are `observations` and, where the policy is masked, `action_mask`;
outputs are `actions` and `q_values`. Nothing is taken from Content-Type: `tritonclient` sends none,
or an octet-stream for plain JSON. What is malformed is answered with 400, as these clients expect.
"""

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from contract.manifest import ACTION_MASK, ACTIONS, OBSERVATIONS, Q_VALUES
from service.errors import (
    InvalidObservationError,
    InvalidRequestError,
    MalformedBodyError,
    ServiceError,
    UnknownPolicyError,
)
from service.faces.decoding import Step, check_id
from service.faces.http import Route
from service.faces.inference_answers import answer_reply
from service.faces.inference_compression import decompress
from service.faces.inference_tensors import (
    Count,
    InputParameters,
    InputTensor,
    datatype_of,
    read_tensor,
    split_body,
    take_blobs,
)
from service.inference.questions import Answer, OnFallback, Question
from service.inference.served import ServedPolicy
from service.messages import Request, Respond, error_reply
from service.server import Server

OUTPUTS: Final = (ACTIONS, Q_VALUES)
HEADER_LENGTH: Final = b"inference-header-content-length"


class WantedParameters(msgspec.Struct):
    """How one output is wanted."""

    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class WantedOutput(msgspec.Struct):
    """One output that is asked for."""

    name: str
    parameters: WantedParameters | None = None


class InferParameters(msgspec.Struct):
    """What is read of a request's parameters; all others are passed over."""

    binary_data_output: bool = False
    timeout: Count = 0
    """Microseconds to answer in; 0 is the server's own deadline, and more than its longest is
    taken for that."""
    on_fallback: OnFallback = "heuristic"
    decision_id: str | None = None
    episode_id: str | None = None
    """For requests of one row, as `step`."""
    step: Step | None = None


class InferRequest(msgspec.Struct):
    """Which actions to take on N observations."""

    inputs: list[InputTensor]
    id: str | None = None
    """Comes back as it is; else one is made."""
    parameters: InferParameters | None = None
    outputs: list[WantedOutput] | None = None
    """All, in the order of the metadata, where left out."""


class _Asked(NamedTuple):
    """A request, decoded."""

    document: InferRequest
    inputs: dict[str, tuple[InputTensor, memoryview | None]]
    binary_outputs: dict[str, bool]
    """The outputs that are wanted, in order, and whether as bytes."""
    parameters: InferParameters


_decode: Final = msgspec.json.Decoder(InferRequest).decode
_NO_PARAMETERS: Final = InferParameters()
_AS_WANTED: Final = WantedParameters()


def infer(server: Server, request: Request, respond: Respond) -> None:
    """Answer with tensors, by the deadline."""
    try:
        _ask(server, request, respond)
    except InvalidRequestError as error:
        # Our own calls say 422; this protocol's 400.
        respond(error_reply(error)._replace(status=400))


INFER: Final = Route("/v2/models/{model}/infer", "act", infer)
INFER_VERSION: Final = Route("/v2/models/{model}/versions/{version}/infer", "act", infer)


def find_model(server: Server, name: str, version: str | None = None) -> ServedPolicy:
    """The policy of that name; a version in the path must be the one that answers.

    Raises:
        UnknownPolicyError: No such policy, or another version answers.
    """
    served = server.policy(name)
    found = serving_version(server, served)
    if version is not None and version != found:
        raise UnknownPolicyError(
            f"versions: {name} serves {'none' if found is None else found}, found {version[:20]!r}"
        )
    return served


def serving_version(server: Server, served: ServedPolicy) -> str | None:
    """The live version; while none is, the one for which the heuristic stands."""
    version = served.live_version or server.rollout.state(served.name).stable
    return None if version is None else str(version)


def _ask(server: Server, request: Request, respond: Respond) -> None:
    served = find_model(server, *request.path_parameters)
    asked = _read_request(served, request, server.settings.body_max_bytes)
    observations, action_masks = _read_inputs(served, asked.inputs, server.settings.rows_max)
    parameters, rows = asked.parameters, len(observations)
    if rows > 1 and (parameters.episode_id is not None or parameters.step is not None):
        raise InvalidRequestError(
            f"parameters: episode_id and step are for requests of one row, found {rows} rows"
        )
    check_id(parameters.decision_id, "parameters.decision_id")
    check_id(parameters.episode_id, "parameters.episode_id")
    decision_id = parameters.decision_id or server.new_decision_id()
    timeout_ms = min(parameters.timeout / 1000, server.settings.deadline_max_ms)
    deadline = request.arrived_at + server.deadline_seconds(timeout_ms or None)

    def tell(answer: Answer | ServiceError) -> None:
        if isinstance(answer, ServiceError):
            reply = error_reply(answer)
        else:
            reply = answer_reply(
                served,
                answer,
                decision_id,
                decision_id if asked.document.id is None else asked.document.id,
                asked.binary_outputs,
                request.header(b"accept-encoding"),
            )
        respond(reply)

    served.submit(
        Question(
            decision_id,
            observations,
            action_masks,
            None if parameters.episode_id is None else [parameters.episode_id],
            None if parameters.step is None else [parameters.step],
            request.arrived_at,
            deadline,
            parameters.on_fallback,
            tell,
            traced=server.follow(request),
        )
    )


def _read_request(served: ServedPolicy, request: Request, max_bytes: int) -> _Asked:
    body = decompress(request.body, request.header(b"content-encoding"), max_bytes)
    split = split_body(body, request.header(HEADER_LENGTH))
    is_raw = request.header(HEADER_LENGTH) is not None and not split.document
    document = _raw_request(served, len(split.rest)) if is_raw else _read_document(split.document)
    parameters = document.parameters or _NO_PARAMETERS
    blobs = take_blobs(document.inputs, split.rest)
    inputs = {
        tensor.name: (tensor, blob) for tensor, blob in zip(document.inputs, blobs, strict=True)
    }
    if len(inputs) < len(document.inputs):
        raise InvalidRequestError("inputs: each name once")
    wanted = document.outputs or [WantedOutput(name) for name in OUTPUTS]
    binary_outputs = {
        output.name: _is_binary(output, parameters.binary_data_output) for output in wanted
    }
    if len(binary_outputs) < len(wanted):
        raise InvalidRequestError("outputs: each name once")
    return _Asked(document, inputs, binary_outputs, parameters)


def _read_document(content: memoryview) -> InferRequest:
    try:
        return _decode(content)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(str(error)) from error
    except msgspec.DecodeError as error:
        raise MalformedBodyError(str(error)) from error
    except RecursionError:
        raise MalformedBodyError("the body is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"the body is not UTF-8: {error.reason}") from error


def _raw_request(served: ServedPolicy, size: int) -> InferRequest:
    """A body without JSON is the bytes of one observation, and wants bytes back."""
    spec = served.declaration.observation
    tensor = InputTensor(
        OBSERVATIONS, [1, *spec.shape], datatype_of(spec.numpy_dtype), InputParameters(size)
    )
    return InferRequest([tensor], parameters=InferParameters(binary_data_output=True))


def _is_binary(output: WantedOutput, by_default: bool) -> bool:
    if output.name not in OUTPUTS:
        raise InvalidRequestError(
            f"outputs: expected {' or '.join(OUTPUTS)}, found {output.name[:64]!r}"
        )
    parameters = output.parameters or _AS_WANTED
    # A client that asked for these reads the answer as something else than numbers.
    if parameters.classification or parameters.shared_memory_region is not None:
        raise InvalidRequestError(
            f"outputs.{output.name}: neither classification nor shared memory is served"
        )
    return by_default if parameters.binary_data is None else parameters.binary_data


def _read_inputs(
    served: ServedPolicy, inputs: dict[str, tuple[InputTensor, memoryview | None]], rows_max: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Observations [N, *shape] and, where given, masks [N, num_actions]."""
    spec, actions = served.declaration.observation, served.declaration.actions
    known = [OBSERVATIONS, ACTION_MASK] if actions.masked else [OBSERVATIONS]
    unknown = sorted(inputs.keys() - set(known))
    if unknown or OBSERVATIONS not in inputs:
        raise InvalidRequestError(
            f"inputs: expected {' and '.join(known)}, "
            f"found {[name[:64] for name in sorted(inputs)[:4]]}"
        )
    tensor, blob = inputs[OBSERVATIONS]
    if tensor.shape and tensor.shape[0] > rows_max:
        raise InvalidRequestError(
            f"inputs.{OBSERVATIONS}: expected at most {rows_max} rows, found {tensor.shape[0]}"
        )
    observations = read_tensor(tensor, blob, spec.shape, spec.numpy_dtype)
    if ACTION_MASK not in inputs:
        return observations, None
    masks = read_tensor(*inputs[ACTION_MASK], (actions.count,), np.dtype(np.bool_))
    if len(masks) != len(observations):
        raise InvalidObservationError(
            f"inputs.{ACTION_MASK}: expected {len(observations)} rows, found {len(masks)}"
        )
    if not masks.any(axis=1).all():
        row = int(np.argmin(masks.any(axis=1)))
        raise InvalidRequestError(f"inputs.{ACTION_MASK}[{row}]: leaves no legal action")
    return observations, masks

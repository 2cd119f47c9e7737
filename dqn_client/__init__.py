"""What an agent installs: typed clients of the service. Imports the contract only."""

from dqn_client.async_client import AsyncClient
from dqn_client.client import Client
from dqn_client.episodes import AsyncEpisode, Episode, new_episode_id
from dqn_client.local import LocalPolicy
from dqn_client.messages import Answer, AnsweredBy, ClientError, OutcomeReport, StepAnswer
from dqn_client.retries import RetryBudget, RetryPolicy

__all__ = [
    "Answer",
    "AnsweredBy",
    "AsyncClient",
    "AsyncEpisode",
    "Client",
    "ClientError",
    "Episode",
    "LocalPolicy",
    "OutcomeReport",
    "RetryBudget",
    "RetryPolicy",
    "StepAnswer",
    "new_episode_id",
]

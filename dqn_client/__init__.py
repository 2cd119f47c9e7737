"""What an agent installs: a typed client of the service. Imports the contract only."""

from dqn_client.client import Answer, Client, ClientError
from dqn_client.episodes import new_episode_id

__all__ = ["Answer", "Client", "ClientError", "new_episode_id"]

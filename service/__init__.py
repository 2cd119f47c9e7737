"""The inference and monitoring service. Imports the contract; never torch."""

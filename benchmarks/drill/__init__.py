"""Incidents replayed against a real service, recorder, Redis, Prometheus and Alertmanager."""

"""Ape-X on Ray: many actors, sharded prioritised replay, one learner (Horgan et al., 2018)."""

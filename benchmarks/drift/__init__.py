"""How often drift is told where there is none, and how soon where there is."""

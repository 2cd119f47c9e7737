"""How fast one worker answers, beside what no server can beat."""

"""The story: what happens to a backup, in order. `core` holds its meaning, `tasks` its steps."""

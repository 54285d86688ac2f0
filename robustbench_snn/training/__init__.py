"""The one recipe that makes every shipped checkpoint."""

"""Runs trials in worker processes, on this machine and on others."""

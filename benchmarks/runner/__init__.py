"""Runs: a configuration resolved, one run, the plan and schedule of many."""

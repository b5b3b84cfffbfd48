"""The suite: configurations, runs, records, tables and the command line over them."""

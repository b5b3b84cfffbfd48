"""Equal budgets: every method is searched with the same number of trials, and compared on data never used for it."""

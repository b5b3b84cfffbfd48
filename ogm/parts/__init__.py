"""What several methods share: heads, teachers, stages of a run, gradients, ensembles."""

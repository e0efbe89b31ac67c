"""What a person runs: the command line, recipes, the DAG of jobs. Nothing is computed here."""

"""Action search: sample, rank, ascend the critic's gradient, select."""

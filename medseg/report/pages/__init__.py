"""The pages of the reports: evaluation, comparison, training, inference, datasets."""

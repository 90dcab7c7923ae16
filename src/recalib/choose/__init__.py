"""Conclusions from measurements: published accuracies, advice, budgets and recommendations, each by a stated rule."""

"""What measurements say: published accuracies, advice, budgets and recommendations, each by a stated rule."""

"""How `laws` draws examples and tries them."""

"""How the mypy plugin reads shapes and unifies them."""

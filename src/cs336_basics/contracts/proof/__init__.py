"""How `prove` runs a function on symbols and watches it."""

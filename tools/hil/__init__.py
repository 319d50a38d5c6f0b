"""Hardware in the loop: a board, a plant around it, and what is done to them."""

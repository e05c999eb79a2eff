"""The sections of the page, in its order: each a function from what was asked for to what came out."""

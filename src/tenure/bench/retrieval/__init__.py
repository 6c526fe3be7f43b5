"""How well memory finds what was said: public conversation sets, without any judge model."""

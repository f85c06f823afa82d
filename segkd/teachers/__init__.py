"""Teachers from other libraries as networks of segkd."""

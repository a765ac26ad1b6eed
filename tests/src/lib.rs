//! Harness of the tests that run the whole broker.

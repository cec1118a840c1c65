//! Tests of the stores against real databases.

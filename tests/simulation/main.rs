//! Promises that only time and numbers show, kept by the decisions alone: a clock that the test moves, seeds instead of
//! chance, no socket. What fails prints its seed.

mod chain;

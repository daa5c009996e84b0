//! What is asked of the services that filters ask, and what did they answer?
//!
//! Holds: the only door between the data path and messages of services; behind it they are bytes and parts of the model.

pub use remora_translate::service::{
    CHECK, Question, SHOULD_RATE_LIMIT, Side, authorization, check_request, limit_answer, limit_request,
};

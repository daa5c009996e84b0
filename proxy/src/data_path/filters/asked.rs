//! Asks a gRPC service in the middle of a request, for the filters that wait for its word.

use std::fmt::Display;
use std::pin::pin;

use crate::data_path::ask::{Unanswered, Unary, unary};
use crate::data_path::deadlines::Deadlines;
use crate::data_path::forward::within;
use crate::data_path::mutation::Printer;
use crate::data_path::request::Exchange;
use crate::exchange::{Downstream, RequestHead};
use crate::failure::Failure;

impl<D: Downstream> Exchange<'_, D> {
    /// The service's answer as `read` reads it, or why there is none.
    ///
    /// # Errors
    /// The client went away meanwhile.
    pub(super) async fn asked<T, E: Display>(
        &mut self,
        wanted: Unary<'_>,
        head: &RequestHead,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Result<T, Unanswered>, Failure> {
        let printer = Printer {
            record: &self.record,
            request: Some(&head.headers),
            response: None,
        };
        // A call is larger than what most requests need.
        let asked = Box::pin(unary(
            &self.context.worker,
            &self.context.record,
            wanted,
            &printer,
        ));
        let answer = within(self.downstream, &Deadlines::default(), self.timer, pin!(asked)).await?;
        Ok(answer
            .and_then(|bytes| read(&bytes).map_err(|garbled| Unanswered::Malformed(garbled.to_string()))))
    }
}

//! Leaves objects for others (`envoy.filters.http.set_filter_state`).

use std::sync::Arc;

use remora_model::filter::{RouteFilter, SetFilterState};
use remora_model::log::Format;
use remora_model::metadata::StateObject;
use remora_model::route::Decision;

use crate::data_path::forward::Cut;
use crate::data_path::request::Exchange;
use crate::exchange::{Downstream, RequestHead};
use crate::observe::values::{Values, write_text};

impl<D: Downstream> Exchange<'_, D> {
    /// Sets what the filter says, then what the levels of the route say, the most specific last.
    ///
    /// # Errors
    /// The route is to be chosen again, and there are no routes any more.
    pub(super) fn set_state(
        &mut self,
        own: &Arc<SetFilterState>,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &RequestHead,
    ) -> Result<(), Cut> {
        let said = super::said(decision, name).filter_map(|said| match said {
            RouteFilter::SetFilterState(said) => Some(said),
            _ => None,
        });
        let mut levels: Vec<_> = said.collect();
        levels.push(own);
        for level in levels.into_iter().rev() {
            self.set_values(level, head);
        }
        if own.clear_route_cache {
            self.choose_again(head)?;
        }
        Ok(())
    }

    fn set_values(&mut self, said: &SetFilterState, head: &RequestHead) {
        for value in &said.values {
            let Format::Text { pieces, omit_empty } = &*value.format else {
                continue;
            };
            let mut text = String::new();
            let values = Values {
                record: &self.record,
                request_headers: Some(&head.headers),
                response_headers: None,
                response_trailers: None,
                local_body: None,
            };
            write_text(pieces, &values, if *omit_empty { "" } else { "-" }, &mut text);
            if text.is_empty() && value.skip_if_empty {
                continue;
            }
            if let Some(object) = StateObject::new(value.kind, &text) {
                let noted = self.record.metadata.get_or_insert_default();
                noted.set_object(&value.key, object);
            }
        }
    }
}

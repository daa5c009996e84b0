//! What happens to a response's head on its way to the client, in Envoy's order: hop-by-hop headers, the router's own
//! headers, the route's mutations, the connection manager's `server` and `date`.

use std::cell::RefCell;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use remora_model::listener::{HttpManager, ServerHeader};
use remora_model::retry::NO_RETRY;

use super::fallback::DEGRADED;
use super::forwarded_for;
use super::request_head::{X_REQUEST_ID, strip_hop_by_hop};
use crate::exchange::ResponseHead;
use crate::observe::ExchangeRecord;
use crate::observe::time_text::unix_seconds;

const UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Cleans a head that came from an upstream, enters it into the record, and says how long it took. A switch of protocols names the protocol.
pub fn from_upstream(head: &mut ResponseHead, record: &mut ExchangeRecord, upgrade: Option<&str>) {
    record.status = Some(head.status.as_u16());
    record.details = "via_upstream".into();
    let took = record.response_started.unwrap_or_default();
    let headers = &mut head.headers;
    let told = strip_hop_by_hop(headers);
    if told && record.by_router || record.is_in_vain(head.status.is_server_error()) {
        headers.insert(NO_RETRY, HeaderValue::from_static("1"));
    }
    if let Some(kind) = record.degraded {
        headers.insert(DEGRADED, HeaderValue::from_static(kind));
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(token) = upgrade.and_then(|token| HeaderValue::from_str(token).ok()) {
            headers.insert(header::UPGRADE, token);
        }
        return;
    }
    if record.quiet {
        return;
    }
    if let Ok(millis) = HeaderValue::try_from(took.as_millis().to_string()) {
        headers.insert(UPSTREAM_SERVICE_TIME, millis);
    }
}

/// What the connection manager writes into every response, its own included.
pub fn finish(headers: &mut HeaderMap, manager: &HttpManager, request_id: Option<&HeaderValue>) {
    match manager.server_header {
        ServerHeader::Overwrite => {
            headers.insert(header::SERVER, manager.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            headers
                .entry(header::SERVER)
                .or_insert_with(|| manager.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, date());
    }
    if manager.always_set_request_id_in_response
        && let Some(id) = request_id
    {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    if let Some(via) = &manager.via {
        forwarded_for::pass_via(headers, via);
    }
}

thread_local! {
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// The current time as `IMF-fixdate` (RFC 9110 section 5.6.7), formatted once a second per worker.
fn date() -> HeaderValue {
    let seconds = unix_seconds();
    DATE.with_borrow_mut(|(at, value)| {
        if *at != seconds
            && let Ok(fresh) = HeaderValue::try_from(fixdate(seconds))
        {
            *at = seconds;
            *value = fresh;
        }
        value.clone()
    })
}

/// Seconds since the epoch as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn fixdate(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let of_day = seconds % 86_400;
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Year, month (1 to 12) and day of a day since 1970-01-01, in the Gregorian calendar counted in 400-year eras.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_an_imf_fixdate() {
        assert_eq!(fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(fixdate(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(fixdate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}

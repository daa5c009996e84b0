//! How fresh is the configuration, in metrics?
//!
//! Holds: there are series per type and per server, never per resource, so ten thousand clusters add none; they are
//! made at a scrape from what the clients know and nothing is kept for them.

use std::time::Duration;

use super::scrape::{Number, Series};

/// Servers that have series of their own; a configuration may name any number of files and streams.
const SERVERS: usize = 16;

/// One resource type over all servers.
#[derive(Debug, Clone, Default)]
pub struct TypeFacts {
    /// `cds`, `eds`, ...
    pub name: &'static str,
    /// How many resources are in which state.
    pub states: [(&'static str, usize); 5],
    /// Since a response was accepted whole.
    pub last_update: Option<Duration>,
    /// Since a response was refused in whole or in part.
    pub last_rejection: Option<Duration>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Its name, as `/xds` has it.
    pub name: String,
    /// Whether a stream is open.
    pub is_connected: bool,
    /// Since a message arrived.
    pub last_message: Option<Duration>,
    /// Streams that were opened.
    pub opened: u64,
    /// Attempts and streams without a response.
    pub failures: u64,
}

/// The series of a scrape.
pub fn series(types: &[TypeFacts], servers: &[ServerFacts]) -> Vec<Series> {
    let mut all = Vec::new();
    for facts in types {
        let label = ("xds_type", facts.name.to_owned());
        for (state, count) in facts.states {
            let labels = vec![label.clone(), ("state", state.to_owned())];
            let count = Number::Gauge(i64::try_from(count).unwrap_or(i64::MAX));
            all.push(one(&["resources", facts.name, state], "resources", labels, count));
        }
        let ages = [
            ("last_update_age_seconds", facts.last_update),
            ("last_rejection_age_seconds", facts.last_rejection),
        ];
        for (word, age) in ages {
            let shown = age.map(|age| one(&[word, facts.name], word, vec![label.clone()], seconds(age)));
            all.extend(shown);
        }
    }
    for facts in servers.iter().take(SERVERS) {
        let mut enter = |word: &str, number| {
            let label = ("xds_server", facts.name.clone());
            all.push(one(
                &["server", &facts.name, word],
                &format!("server_{word}"),
                vec![label],
                number,
            ));
        };
        enter("connected", Number::Gauge(i64::from(facts.is_connected)));
        enter("streams_total", Number::Counter(facts.opened));
        enter("failures_total", Number::Counter(facts.failures));
        if let Some(age) = facts.last_message {
            enter("last_message_age_seconds", seconds(age));
        }
    }
    all
}

fn seconds(age: Duration) -> Number {
    Number::Fraction(age.as_millis() as f64 / 1000.0)
}

fn one(name: &[&str], family: &str, labels: Vec<(&'static str, String)>, number: Number) -> Series {
    Series {
        name: format!("remora.xds.{}", name.join(".")),
        family: format!("remora_xds_{family}"),
        labels,
        number,
        line: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_per_type_and_per_server_and_bounded() {
        let types = [TypeFacts {
            name: "cds",
            states: [("acked", 10_000), ("nacked", 1), ("", 0), ("", 0), ("", 0)],
            last_update: Some(Duration::from_millis(1500)),
            last_rejection: None,
        }];
        let servers: Vec<ServerFacts> = (0..100)
            .map(|index| ServerFacts {
                name: format!("server-{index}"),
                is_connected: true,
                last_message: Some(Duration::ZERO),
                opened: 1,
                failures: 0,
            })
            .collect();
        let all = series(&types, &servers);
        assert_eq!(all.len(), 6 + 4 * SERVERS);
        assert_eq!(all[0].name, "remora.xds.resources.cds.acked");
        assert_eq!(all[0].family, "remora_xds_resources");
        assert_eq!(all[0].labels[1], ("state", "acked".to_owned()));
        assert_eq!(all[5].name, "remora.xds.last_update_age_seconds.cds");
        assert_eq!(all[5].number, Number::Fraction(1.5));
    }
}

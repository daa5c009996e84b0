//! What does an endpoint say of its own load (`xds.data.orca.v3.OrcaLoadReport`)?
//!
//! Holds: a report with anything in it that is not understood is no report, as in Envoy. Read here are Envoy's text form
//! and the message's bytes; base64 and JSON are the shell's business.

/// Names of what a report holds beside maps.
const FIELDS: [&str; 5] = [
    "cpu_utilization",
    "mem_utilization",
    "application_utilization",
    "rps_fractional",
    "eps",
];

/// The name of a map and what its keys begin with: `named_metrics.KEY`.
const MAPS: [&str; 3] = ["request_cost", "utilization", "named_metrics"];

/// A report. Keys of maps stand behind the name of their map: `named_metrics.queue`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport(Vec<(Box<str>, f64)>);

/// Something in a report is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAReport;

impl LoadReport {
    /// Reads `name=value` (or `name:value`) separated by commas.
    ///
    /// # Errors
    /// An unknown or repeated name, a value that is no finite number.
    pub fn from_text(text: &str) -> Result<Self, NotAReport> {
        let mut report = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once(['=', ':']).ok_or(NotAReport)?;
            let named = name
                .strip_prefix("named_metrics.")
                .is_some_and(|key| !key.is_empty());
            if !named && !FIELDS.contains(&name) || report.at(name).is_some() {
                return Err(NotAReport);
            }
            report.enter(name, value.trim().parse().map_err(|_| NotAReport)?)?;
        }
        Ok(report)
    }

    /// Reads an encoded message. Fields that it does not know are passed over, as protobuf has it.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAReport> {
        let mut report = Self::default();
        for_each_field(bytes, |number, value| match (number, value) {
            (1, Value::Double(value)) => report.enter(FIELDS[0], value),
            (2, Value::Double(value)) => report.enter(FIELDS[1], value),
            (9, Value::Double(value)) => report.enter(FIELDS[2], value),
            (6, Value::Double(value)) => report.enter(FIELDS[3], value),
            (7, Value::Double(value)) => report.enter(FIELDS[4], value),
            (4, Value::Bytes(entry)) => report.enter_of(MAPS[0], entry),
            (5, Value::Bytes(entry)) => report.enter_of(MAPS[1], entry),
            (8, Value::Bytes(entry)) => report.enter_of(MAPS[2], entry),
            _ => Ok(()),
        })?;
        Ok(report)
    }

    /// Adds a field by its name in the message or in JSON.
    ///
    /// # Errors
    /// An unknown name, a value that is not finite.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), NotAReport> {
        let known = FIELDS
            .iter()
            .find(|field| same_name(field, name))
            .ok_or(NotAReport)?;
        self.enter(known, value)
    }

    /// Adds an entry of a map by the map's name in the message or in JSON.
    ///
    /// # Errors
    /// An unknown name, a value that is not finite.
    pub fn set_in(&mut self, map: &str, key: &str, value: f64) -> Result<(), NotAReport> {
        let known = MAPS
            .iter()
            .find(|field| same_name(field, map))
            .ok_or(NotAReport)?;
        self.enter(&format!("{known}.{key}"), value)
    }

    /// The value of a name; `None`: nothing was said.
    pub fn at(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().rev().find(|(known, _)| **known == *name);
        found.map(|(_, value)| *value)
    }

    fn enter(&mut self, name: &str, value: f64) -> Result<(), NotAReport> {
        if !value.is_finite() {
            return Err(NotAReport);
        }
        self.0.push((name.into(), value));
        Ok(())
    }

    fn enter_of(&mut self, map: &str, entry: &[u8]) -> Result<(), NotAReport> {
        let (mut key, mut amount) = ("", 0.0);
        for_each_field(entry, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => key = std::str::from_utf8(bytes).map_err(|_| NotAReport)?,
                (2, Value::Double(value)) => amount = value,
                _ => {}
            }
            Ok(())
        })?;
        self.enter(&format!("{map}.{key}"), amount)
    }
}

/// `rps_fractional` and `rpsFractional` are the same.
fn same_name(known: &str, said: &str) -> bool {
    let plain = |text: &str| {
        text.chars()
            .filter(|c| *c != '_')
            .map(|c| c.to_ascii_lowercase())
            .collect::<String>()
    };
    known == said || !said.contains('_') && plain(known) == plain(said)
}

enum Value<'b> {
    Double(f64),
    Bytes(&'b [u8]),
    Other,
}

/// Calls `each` with every field of a message (protobuf's encoding).
fn for_each_field<'b>(
    mut bytes: &'b [u8],
    mut each: impl FnMut(u64, Value<'b>) -> Result<(), NotAReport>,
) -> Result<(), NotAReport> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                Value::Other
            }
            1 => {
                let (word, rest) = bytes.split_first_chunk::<8>().ok_or(NotAReport)?;
                bytes = rest;
                Value::Double(f64::from_le_bytes(*word))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| NotAReport)?;
                let (inside, rest) = bytes.split_at_checked(length).ok_or(NotAReport)?;
                bytes = rest;
                Value::Bytes(inside)
            }
            5 => {
                bytes = bytes.get(4..).ok_or(NotAReport)?;
                Value::Other
            }
            _ => return Err(NotAReport),
        };
        each(tag >> 3, value)?;
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, NotAReport> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(NotAReport)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotAReport)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_read_as_envoy_reads_it() {
        let report =
            LoadReport::from_text("cpu_utilization=0.5, rps_fractional:300,named_metrics.foo=1e1").unwrap();
        assert_eq!(report.at("cpu_utilization"), Some(0.5));
        assert_eq!(report.at("rps_fractional"), Some(300.0));
        assert_eq!(report.at("named_metrics.foo"), Some(10.0));
        assert_eq!(report.at("eps"), None);
        let wrong = [
            "zzz=1",
            "cpu_utilization",
            "cpu_utilization=x",
            "eps=1,eps=1",
            "eps=inf",
            "eps=NaN",
            "named_metrics.=1",
            "utilization.x=1",
            "eps = 1",
        ];
        for text in wrong {
            assert_eq!(LoadReport::from_text(text), Err(NotAReport), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_with_their_maps() {
        let double = |number: u8, value: f64| [&[number << 3 | 1][..], &value.to_le_bytes()].concat();
        let entry = [&[0x0a, 3][..], b"foo", &double(2, 0.25)].concat();
        let map = [&[8 << 3 | 2, entry.len() as u8][..], &entry].concat();
        let unknown = [15 << 3, 0x96, 0x01];
        let bytes = [
            &double(1, 0.5)[..],
            &double(6, 300.0),
            &map,
            &unknown,
            &double(9, 0.75),
        ]
        .concat();
        let report = LoadReport::from_bytes(&bytes).unwrap();
        assert_eq!(report.at("cpu_utilization"), Some(0.5));
        assert_eq!(report.at("rps_fractional"), Some(300.0));
        assert_eq!(report.at("application_utilization"), Some(0.75));
        assert_eq!(report.at("named_metrics.foo"), Some(0.25));
        assert_eq!(LoadReport::from_bytes(&bytes[..bytes.len() - 1]), Err(NotAReport));
    }

    #[test]
    fn names_are_those_of_the_message_and_of_json() {
        let mut report = LoadReport::default();
        report.set("rpsFractional", 1.0).unwrap();
        report.set("cpu_utilization", 2.0).unwrap();
        report.set_in("namedMetrics", "a", 3.0).unwrap();
        assert_eq!(report.at("rps_fractional"), Some(1.0));
        assert_eq!(report.at("named_metrics.a"), Some(3.0));
        assert_eq!(report.set("rps", 1.0), Err(NotAReport));
        assert_eq!(report.set_in("metrics", "a", 1.0), Err(NotAReport));
    }

    proptest! {
        #[test]
        fn nothing_that_an_endpoint_sends_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,64}") {
            let _ = LoadReport::from_bytes(&bytes);
            let _ = LoadReport::from_text(&text);
        }
    }
}

//! Routes: which requests move?
//!
//! Holds: routes are told apart by what they match, as the model has it; a route that is new before others which may
//! match the same requests takes these over, and that is said. Whether two matches overlap is answered with yes where
//! it cannot be known (regular expressions, headers), so no move is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use remora_model::Name;
use remora_model::listener::{Listener, Routes, Terminal};
use remora_model::route::{Action, PathMatch, Route, RouteMatch, RouteTable, VirtualHost};
use serde_json::Value;

use super::fields::{self, FieldChange};
use super::{Change, Kind, Section, Side, Sides, words};
use crate::config_dump::ResourceKind;
use crate::preview::Part;
use crate::preview::check::value_at;

/// A route configuration, and its honoured fields.
struct Table<'s> {
    table: Arc<RouteTable>,
    shown: &'s Value,
}

pub(super) fn compare(sides: &Sides, changes: &mut Vec<Change>) {
    let (before, after) = (tables(sides, &sides.before), tables(sides, &sides.after));
    for (name, old) in &before {
        match after.get(name) {
            Some(new) => table(sides, name, old, new, changes),
            None if is_kept(sides, name) => {}
            None => changes.push(whole(Kind::Removed, name, &old.table)),
        }
    }
    for (name, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
        changes.push(whole(Kind::Added, name, &new.table));
    }
}

/// Whether the newer version is rejected, so that nothing changes.
fn is_kept(sides: &Sides, name: &str) -> bool {
    let kinds = [ResourceKind::Routes, ResourceKind::Listener];
    kinds.into_iter().any(|kind| {
        let rejected = sides
            .after
            .rejected
            .keys()
            .filter(|(rejected, _)| *rejected == kind);
        rejected.into_iter().any(|(kind, rejected)| match kind {
            ResourceKind::Routes => rejected == name,
            _ => name.starts_with(&format!("listener '{rejected}'")),
        })
    })
}

/// Every route configuration: those of RDS by name, those inside of listeners by listener and chain.
fn tables<'s>(sides: &Sides, side: &'s Side) -> BTreeMap<String, Table<'s>> {
    let mut found = BTreeMap::new();
    for (name, item) in side.of(ResourceKind::Routes) {
        if let Part::Routes(table) = &item.part {
            let table = Arc::clone(table);
            found.insert(
                name.to_owned(),
                Table {
                    table,
                    shown: &item.shown,
                },
            );
        }
    }
    for (name, item) in side.of(ResourceKind::Listener) {
        if let Part::Listener(listener, _) = &item.part {
            for (label, table) in inline(sides, name, listener) {
                found.insert(
                    label,
                    Table {
                        table,
                        shown: &Value::Null,
                    },
                );
            }
        }
    }
    found
}

fn inline(_: &Sides, name: &str, listener: &Listener) -> Vec<(String, Arc<RouteTable>)> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains
        .enumerate()
        .filter_map(|(index, chain)| {
            let Terminal::Http(manager) = &chain.terminal else {
                return None;
            };
            let Routes::Inline(table) = &manager.routes else {
                return None;
            };
            let chain = match &*chain.name {
                "" if listener.chains.len() < 2 => String::new(),
                "" => format!(" chain {index}"),
                name => format!(" chain '{name}'"),
            };
            Some((format!("listener '{name}'{chain}"), Arc::clone(table)))
        })
        .collect()
}

fn whole(kind: Kind, name: &str, table: &RouteTable) -> Change {
    let routes: usize = table.virtual_hosts.iter().map(|host| host.routes.len()).sum();
    Change {
        section: Section::Routes,
        kind,
        name: name.to_owned(),
        sentences: vec![format!(
            "{} virtual hosts with {routes} routes{}",
            table.virtual_hosts.len(),
            if kind == Kind::Removed {
                "; a listener that still refers to them keeps them"
            } else {
                ""
            }
        )],
        fields: Vec::new(),
    }
}

fn table(sides: &Sides, name: &str, old: &Table<'_>, new: &Table<'_>, changes: &mut Vec<Change>) {
    if sides.same(&old.table, &new.table) {
        return;
    }
    let before = changes.len();
    for (index, host) in new.table.virtual_hosts.iter().enumerate() {
        match old
            .table
            .virtual_hosts
            .iter()
            .position(|other| other.name == host.name)
        {
            None => changes.push(host_change(
                name,
                host,
                Kind::Added,
                vec![format!(
                    "answers for {} with {} routes",
                    host.domains.join(", "),
                    host.routes.len()
                )],
                Vec::new(),
            )),
            Some(at) => {
                let was = &old.table.virtual_hosts[at];
                if !sides.same(was, host) {
                    let fields = host_fields(old.shown, at, new.shown, index);
                    let sentences = virtual_host(sides, was, host);
                    changes.push(host_change(name, host, Kind::Changed, sentences, fields));
                }
            }
        }
    }
    for host in &old.table.virtual_hosts {
        if !new
            .table
            .virtual_hosts
            .iter()
            .any(|other| other.name == host.name)
        {
            let sentence = format!(
                "nothing answers for {} in its place, unless another domain does",
                host.domains.join(", ")
            );
            changes.push(host_change(name, host, Kind::Removed, vec![sentence], Vec::new()));
        }
    }
    if changes.len() == before {
        let fields: Vec<FieldChange> = fields::changes(old.shown, new.shown);
        changes.push(Change {
            section: Section::Routes,
            kind: Kind::Changed,
            name: name.to_owned(),
            sentences: vec!["what holds for all of its virtual hosts changes, or their order".to_owned()],
            fields,
        });
    }
}

fn host_change(
    table: &str,
    host: &VirtualHost,
    kind: Kind,
    sentences: Vec<String>,
    fields: Vec<FieldChange>,
) -> Change {
    Change {
        section: Section::Routes,
        kind,
        name: format!("{table} / {}", host.name),
        sentences,
        fields,
    }
}

/// The fields of a virtual host that differ, its routes aside: these are told in words, or as fields of one route.
fn host_fields(before: &Value, at: usize, after: &Value, index: usize) -> Vec<FieldChange> {
    let host = |shown, index| value_at(shown, &format!("virtual_hosts[{index}]")).cloned();
    match (host(before, at), host(after, index)) {
        (Some(before), Some(after)) => fields::changes(&before, &after)
            .into_iter()
            .filter(|field| field.path != "routes")
            .collect(),
        _ => Vec::new(),
    }
}

fn virtual_host(sides: &Sides, old: &VirtualHost, new: &VirtualHost) -> Vec<String> {
    let mut sentences = Vec::new();
    let listed = |domains: Vec<&Name>| {
        domains
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let gone: Vec<_> = old
        .domains
        .iter()
        .filter(|domain| !new.domains.contains(domain))
        .collect();
    let come: Vec<_> = new
        .domains
        .iter()
        .filter(|domain| !old.domains.contains(domain))
        .collect();
    if !gone.is_empty() {
        sentences.push(format!("no longer answers for {}", listed(gone)));
    }
    if !come.is_empty() {
        sentences.push(format!("answers for {} from now on", listed(come)));
    }
    let (before, after) = (Keyed::new(sides, old), Keyed::new(sides, new));
    sentences.extend(after.moves(sides, &before));
    sentences.extend(after.additions(sides, &before));
    sentences.extend(before.removals(sides, &after));
    sentences.extend(after.reordered(&before));
    if sentences.is_empty() {
        sentences.push("what holds for all of its routes changes".to_owned());
    }
    sentences
}

/// Routes with what tells them apart: their criteria, and how many routes with the same ones came before.
struct Keyed<'h>(Vec<((String, usize), &'h Route)>);

impl<'h> Keyed<'h> {
    fn new(sides: &Sides, host: &'h VirtualHost) -> Self {
        let mut keyed: Vec<((String, usize), &Route)> = Vec::new();
        for route in &host.routes {
            let criteria = sides.essence(&route.criteria);
            let same = keyed.iter().filter(|((other, _), _)| *other == criteria).count();
            keyed.push(((criteria, same), route));
        }
        Self(keyed)
    }

    fn at(&self, key: &(String, usize)) -> Option<usize> {
        self.0.iter().position(|(other, _)| other == key)
    }

    /// Same match, another action.
    fn moves(&self, sides: &Sides, before: &Self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (key, route) in &self.0 {
            let Some(old) = before.at(key).map(|at| before.0[at].1) else {
                continue;
            };
            let (was, is) = (
                words::action(sides, &old.action),
                words::action(sides, &route.action),
            );
            if was != is {
                sentences.push(format!(
                    "requests with {} move from {was} to {is}",
                    words::criteria(&route.criteria)
                ));
            } else if !sides.same(&old.action, &route.action) || !sides.same(&old.headers, &route.headers) {
                let how = how(sides, old, route);
                sentences.push(format!(
                    "requests with {} still go to {is}, {how}",
                    words::criteria(&route.criteria)
                ));
            }
        }
        sentences
    }

    /// New matches, and what they take over.
    fn additions(&self, sides: &Sides, before: &Self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (index, (key, route)) in self.0.iter().enumerate() {
            if before.at(key).is_some() {
                continue;
            }
            let taken: Vec<String> = self.0[index + 1..]
                .iter()
                .filter(|(later, other)| {
                    before.at(later).is_some() && overlap(&route.criteria, &other.criteria)
                })
                .map(|(_, other)| {
                    format!(
                        "{} ({})",
                        words::criteria(&other.criteria),
                        words::action(sides, &other.action)
                    )
                })
                .collect();
            let taking = if taken.is_empty() {
                String::new()
            } else {
                format!("; it takes precedence over {}", taken.join(", "))
            };
            sentences.push(format!(
                "new match: {} goes to {}{taking}",
                words::criteria(&route.criteria),
                words::action(sides, &route.action)
            ));
        }
        sentences
    }

    /// Matches that are gone, and who gets their requests.
    fn removals(&self, sides: &Sides, after: &Self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (key, route) in &self.0 {
            if after.at(key).is_some() {
                continue;
            }
            let next = after
                .0
                .iter()
                .find(|(_, other)| covers(&other.criteria, &route.criteria));
            let then = match next {
                Some((_, next)) => format!(
                    "its requests go to {} by {}",
                    words::action(sides, &next.action),
                    words::criteria(&next.criteria)
                ),
                None => "its requests are answered with 404, unless another route matches them".to_owned(),
            };
            sentences.push(format!(
                "gone: {} to {}; {then}",
                words::criteria(&route.criteria),
                words::action(sides, &route.action)
            ));
        }
        sentences
    }

    /// Pairs that changed places and may match the same requests.
    fn reordered(&self, before: &Self) -> Vec<String> {
        let places: Vec<(usize, &Route)> = self
            .0
            .iter()
            .filter_map(|(key, route)| Some((before.at(key)?, *route)))
            .collect();
        let mut sentences = Vec::new();
        for (index, (place, route)) in places.iter().enumerate() {
            for (other_place, other) in &places[index + 1..] {
                if other_place < place && overlap(&route.criteria, &other.criteria) {
                    sentences.push(format!(
                        "{} is asked before {} now",
                        words::criteria(&route.criteria),
                        words::criteria(&other.criteria)
                    ));
                }
            }
        }
        sentences
    }
}

/// What differs between two routes that lead to the same place.
fn how(sides: &Sides, old: &Route, new: &Route) -> String {
    let mut how = Vec::new();
    if let (Action::Forward(old), Action::Forward(new)) = (&old.action, &new.action) {
        let seconds = |timeout: &Option<std::time::Duration>| match timeout {
            Some(timeout) => format!("{timeout:?}"),
            None => "none".to_owned(),
        };
        if old.timeout != new.timeout {
            how.push(format!(
                "with timeout {} instead of {}",
                seconds(&new.timeout),
                seconds(&old.timeout)
            ));
        }
        if !sides.same(&old.path, &new.path) || !sides.same(&old.host, &new.host) {
            how.push("with another rewrite of path or host".to_owned());
        }
    }
    if !sides.same(&old.headers, &new.headers) {
        how.push("with other header changes".to_owned());
    }
    if how.is_empty() {
        how.push("with other settings".to_owned());
    }
    how.join(" and ")
}

/// Whether some request may match both; in doubt yes.
fn overlap(a: &RouteMatch, b: &RouteMatch) -> bool {
    use PathMatch as P;
    let begins = |long: &str, short: &str| long.to_ascii_lowercase().starts_with(&short.to_ascii_lowercase());
    match (&a.path, &b.path) {
        (P::Connect, P::Connect) => true,
        (P::Connect, _) | (_, P::Connect) => false,
        (P::Regex(_) | P::Template(_), _) | (_, P::Regex(_) | P::Template(_)) => true,
        (P::Exact(a), P::Exact(b)) => a.literal.eq_ignore_ascii_case(&b.literal),
        (P::Exact(exact), P::Prefix(prefix) | P::SeparatedPrefix(prefix))
        | (P::Prefix(prefix) | P::SeparatedPrefix(prefix), P::Exact(exact)) => {
            begins(&exact.literal, &prefix.literal)
        }
        (P::Prefix(a) | P::SeparatedPrefix(a), P::Prefix(b) | P::SeparatedPrefix(b)) => {
            begins(&a.literal, &b.literal) || begins(&b.literal, &a.literal)
        }
    }
}

/// Whether every request that `narrow` matches is matched by `wide`; in doubt no.
fn covers(wide: &RouteMatch, narrow: &RouteMatch) -> bool {
    let free = wide.headers.is_empty()
        && wide.query.is_empty()
        && !wide.grpc
        && wide.fraction_per_million.is_none()
        && wide.noted.is_none()
        && wide.client.is_none();
    let begun = match (&wide.path, &narrow.path) {
        (
            PathMatch::Prefix(prefix),
            PathMatch::Prefix(path) | PathMatch::Exact(path) | PathMatch::SeparatedPrefix(path),
        ) => path.literal.starts_with(&*prefix.literal),
        (PathMatch::Prefix(prefix), PathMatch::Regex(_) | PathMatch::Template(_)) => &*prefix.literal == "/",
        _ => false,
    };
    free && begun
}

#[cfg(test)]
mod tests {
    use remora_model::matching::Pattern;

    use super::*;

    fn prefix(path: &str) -> RouteMatch {
        RouteMatch {
            path: PathMatch::Prefix(Pattern::new(path, false)),
            headers: Vec::new(),
            query: Vec::new(),
            grpc: false,
            fraction_per_million: None,
            noted: None,
            client: None,
        }
    }

    #[test]
    fn matches_overlap_where_one_request_may_take_both() {
        assert!(overlap(&prefix("/api"), &prefix("/")));
        assert!(!overlap(&prefix("/api"), &prefix("/b")));
        let exact = RouteMatch {
            path: PathMatch::Exact(Pattern::new("/api/x", false)),
            ..prefix("")
        };
        assert!(overlap(&exact, &prefix("/api")) && !overlap(&exact, &prefix("/c")));
    }

    #[test]
    fn a_match_covers_another_only_without_conditions_of_its_own() {
        assert!(covers(&prefix("/"), &prefix("/api")));
        assert!(!covers(&prefix("/api"), &prefix("/")));
        let narrow = RouteMatch {
            grpc: true,
            ..prefix("/")
        };
        assert!(!covers(&narrow, &prefix("/api")));
    }
}

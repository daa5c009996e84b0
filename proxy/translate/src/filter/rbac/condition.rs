//! Principals and permissions.

use remora_model::policy::{AddressRole, Condition};

use super::Subject;
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use crate::pb::envoy::config::rbac::v3::{self as api, permission::Rule, principal::Identifier};
use crate::pb::envoy::config::route::v3::HeaderMatcher;
use crate::pb::envoy::extensions::rbac::principals::mtls_authenticated::v3 as mutual_tls;
use crate::pb::envoy::r#type::matcher::v3::{self as matchers, path_matcher};
use crate::pb::envoy::r#type::v3::Int32Range;
use crate::{matcher, metadata, uri_template, validation, value};

/// Keys of objects that Envoy and Istio set themselves.
const FOREIGN_STATE: [&str; 2] = ["envoy.", "io.istio."];
const MUTUAL_TLS: &str = "envoy.extensions.rbac.principals.mtls_authenticated.v3.Config";

/// One of them; the one that there is, where there is one only.
pub(super) fn any(mut all: Vec<Condition>) -> Condition {
    match (all.len(), all.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            all.extend(last);
            Condition::Any(all)
        }
    }
}

/// A `Permission`.
pub(super) fn permission(
    work: &mut Work<'_, '_>,
    said: &api::Permission,
    subject: Subject,
) -> Option<Condition> {
    let Some(rule) = &said.rule else {
        work.wrong("expected a rule, found none");
        return None;
    };
    let mut set = |field: &str, said: &api::permission::Set| {
        work.at(field, |work| {
            some(work, "rules", said.rules.is_empty())?;
            let all = work.each("rules", &said.rules, |work, said| permission(work, said, subject));
            (all.len() == said.rules.len()).then_some(all)
        })
    };
    match rule {
        Rule::AndRules(said) => set("and_rules", said).map(Condition::All),
        Rule::OrRules(said) => set("or_rules", said).map(Condition::Any),
        Rule::NotRule(said) => work
            .at("not_rule", |work| permission(work, said, subject))
            .map(not),
        Rule::Any(said) => always(work, *said),
        Rule::Header(said) => header(work, said, subject),
        Rule::UrlPath(said) => path(work, said),
        Rule::DestinationIp(said) => address(work, "destination_ip", said, AddressRole::Destination),
        Rule::DestinationPort(said) => {
            let port = value::port(work, "destination_port", *said)?;
            Some(Condition::DestinationPort(port..=port))
        }
        Rule::DestinationPortRange(said) => work.at("destination_port_range", |work| ports(work, said)),
        #[expect(deprecated, reason = "what control planes still send")]
        Rule::Metadata(said) => work.at("metadata", |work| noted(work, said)),
        Rule::SourcedMetadata(said) => work.at("sourced_metadata", |work| sourced(work, said)),
        Rule::RequestedServerName(said) => work
            .at("requested_server_name", |work| matcher::string(work, said))
            .map(Condition::ServerName),
        Rule::Matcher(said) => refuse(work, "matcher", said),
        Rule::UriTemplate(said) => work
            .at("uri_template", |work| uri_template::matching(work, said))
            .map(|template| Condition::Template(Box::new(template))),
    }
}

/// A `Principal`.
pub(super) fn principal(
    work: &mut Work<'_, '_>,
    said: &api::Principal,
    subject: Subject,
) -> Option<Condition> {
    let Some(identifier) = &said.identifier else {
        work.wrong("expected an identifier, found none");
        return None;
    };
    let mut set = |field: &str, said: &api::principal::Set| {
        work.at(field, |work| {
            some(work, "ids", said.ids.is_empty())?;
            let all = work.each("ids", &said.ids, |work, said| principal(work, said, subject));
            (all.len() == said.ids.len()).then_some(all)
        })
    };
    match identifier {
        Identifier::AndIds(said) => set("and_ids", said).map(Condition::All),
        Identifier::OrIds(said) => set("or_ids", said).map(Condition::Any),
        Identifier::NotId(said) => work.at("not_id", |work| principal(work, said, subject)).map(not),
        Identifier::Any(said) => always(work, *said),
        Identifier::Authenticated(said) => work.at("authenticated", |work| match &said.principal_name {
            Some(name) => work
                .at("principal_name", |work| matcher::string(work, name))
                .map(|name| Condition::Authenticated(Some(name))),
            None => Some(Condition::Authenticated(None)),
        }),
        #[expect(deprecated, reason = "what control planes still send")]
        Identifier::SourceIp(said) => address(work, "source_ip", said, AddressRole::Source),
        Identifier::DirectRemoteIp(said) => address(work, "direct_remote_ip", said, AddressRole::Direct),
        Identifier::RemoteIp(said) => address(work, "remote_ip", said, AddressRole::Remote),
        Identifier::Header(said) => header(work, said, subject),
        Identifier::UrlPath(said) => path(work, said),
        #[expect(deprecated, reason = "what control planes still send")]
        Identifier::Metadata(said) => work.at("metadata", |work| noted(work, said)),
        Identifier::SourcedMetadata(said) => work.at("sourced_metadata", |work| sourced(work, said)),
        Identifier::FilterState(said) => work.at("filter_state", |work| state(work, said, subject)),
        Identifier::Custom(said) => custom(work, said),
    }
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn some(work: &mut Work<'_, '_>, field: &str, is_empty: bool) -> Option<()> {
    if is_empty {
        work.wrong_at(field, "expected at least one, found none");
    }
    (!is_empty).then_some(())
}

fn always(work: &mut Work<'_, '_>, said: bool) -> Option<Condition> {
    if !said {
        work.wrong_at("any", "expected true, found false");
    }
    said.then_some(Condition::Always)
}

fn refuse(work: &mut Work<'_, '_>, field: &str, said: &TypedExtensionConfig) -> Option<Condition> {
    let kind = said
        .typed_config
        .as_ref()
        .map_or_else(String::new, |any| Extension::open(any).kind);
    work.wrong_at(field, format!("is not supported: '{}' of type {kind}", said.name));
    None
}

/// A header, which a connection has none of.
fn header(work: &mut Work<'_, '_>, said: &HeaderMatcher, subject: Subject) -> Option<Condition> {
    if subject == Subject::Connections {
        let sentence = format!(
            "Found header({}) rule,not supported by RBAC network filter",
            said.name
        );
        work.wrong_at("header", sentence);
        return None;
    }
    work.at("header", |work| matcher::header(work, said))
        .map(Condition::Header)
}

fn path(work: &mut Work<'_, '_>, said: &matchers::PathMatcher) -> Option<Condition> {
    work.at("url_path", |work| match &said.rule {
        Some(path_matcher::Rule::Path(said)) => work
            .at("path", |work| matcher::string(work, said))
            .map(Condition::Path),
        None => {
            work.wrong("expected a path, found none");
            None
        }
    })
}

fn address(work: &mut Work<'_, '_>, field: &str, said: &CidrRange, role: AddressRole) -> Option<Condition> {
    let range = work.at(field, |work| value::cidr(work, said));
    range.map(|range| Condition::Address(role, range))
}

/// A range without its end, within the ports that there are.
fn ports(work: &mut Work<'_, '_>, said: &Int32Range) -> Option<Condition> {
    let fits = |port: i32| (0..=65536).contains(&port);
    let ports = (u16::try_from(said.start), u16::try_from(said.end - 1));
    match ports {
        (Ok(start), Ok(last)) if fits(said.start) && fits(said.end) && said.start < said.end => {
            Some(Condition::DestinationPort(start..=last))
        }
        _ => {
            work.wrong(format!(
                "range start {} and end {} must be within [0, 65536], the start below the end",
                said.start, said.end
            ));
            None
        }
    }
}

fn custom(work: &mut Work<'_, '_>, said: &TypedExtensionConfig) -> Option<Condition> {
    let extension = said.typed_config.as_ref().map(Extension::open);
    match extension {
        Some(extension) if extension.kind == MUTUAL_TLS => work.at("custom.typed_config", |work| {
            let said: mutual_tls::Config = extension.decode(work)?;
            let matcher = match &said.san_matcher {
                Some(matcher) => Some(work.at("san_matcher", |work| validation::typed_name(work, matcher))?),
                None if said.any_validated_client_certificate => None,
                None => {
                    work.wrong("expected san_matcher or any_validated_client_certificate, found none");
                    return None;
                }
            };
            Some(Condition::MutualTls(matcher))
        }),
        _ => refuse(work, "custom", said),
    }
}

fn sourced(work: &mut Work<'_, '_>, said: &api::SourcedMetadata) -> Option<Condition> {
    match value::known(work, "metadata_source", said.metadata_source)? {
        api::MetadataSource::Dynamic => {}
        api::MetadataSource::Route => {
            work.wrong_at(
                "metadata_source",
                "is not supported: matching by a route's metadata",
            );
            return None;
        }
    }
    let Some(said) = &said.metadata_matcher else {
        work.wrong_at("metadata_matcher", "expected a matcher, found none");
        return None;
    };
    work.at("metadata_matcher", |work| noted(work, said))
}

fn noted(work: &mut Work<'_, '_>, said: &matchers::MetadataMatcher) -> Option<Condition> {
    let matcher = metadata::matcher(work, said)?;
    Some(Condition::Metadata(Box::new(matcher)))
}

/// An object that a filter of ours may have left: of any other it would not be known what it says.
fn state(
    work: &mut Work<'_, '_>,
    said: &matchers::FilterStateMatcher,
    subject: Subject,
) -> Option<Condition> {
    let foreign = FOREIGN_STATE.iter().any(|prefix| said.key.starts_with(prefix));
    if foreign || subject == Subject::Connections {
        let sentence = format!(
            "is not supported: filter state that no filter here sets ('{}')",
            said.key
        );
        work.wrong(sentence);
        return None;
    }
    let matcher = metadata::state_matcher(work, said)?;
    Some(Condition::State(Box::new(matcher)))
}

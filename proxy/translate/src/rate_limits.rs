//! `RateLimit` of routes, virtual hosts and filters: rules that make descriptors of requests.
//!
//! Holds: an action that we could not carry out is refused, since a request without its descriptor would not be limited.
//! Of a route's metadata only the texts that some rule reads are kept.

use std::sync::Arc;

use remora_model::Name;
use remora_model::limit::{
    Action, DescriptorHits, Entry, LimitOverride, MetadataKey, MetadataSource, RateLimits, Rule, TellClients,
    Unit, VirtualHostLimits,
};
use remora_model::log::Format;

use crate::access_log::pieces;
use crate::context::Work;
use crate::pb::envoy::config::core::v3::Metadata;
use crate::pb::envoy::config::route::v3::rate_limit::{self as said, action, r#override};
use crate::pb::envoy::config::route::v3::{self as api, rate_limit::action::ActionSpecifier};
use crate::pb::envoy::extensions::common::ratelimit::v3::VhRateLimitsOptions;
use crate::pb::envoy::r#type::metadata::v3::{MetadataKey as SaidKey, metadata_key::path_segment::Segment};
use crate::pb::envoy::r#type::v3::RateLimitUnit;
use crate::pb::google::protobuf::{BoolValue, Value, value::Kind};
use crate::pb::xds::core::v3::CidrRange;
use crate::{matcher, value};

/// The highest `stage`.
pub(crate) const STAGES: u32 = 10;
/// The most that `hits_addend.number` may be.
const MOST_HITS: u64 = 1_000_000_000;

/// Where rules stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a route or a virtual host.
    Routes,
    /// In the global filter, or what a route says to it: as in the local one.
    GlobalFilter,
    /// In the local filter itself, where `stage`, `disable_key` and `limit` mean nothing.
    LocalFilter,
}

/// What a virtual host says.
pub(crate) fn of_host(work: &mut Work<'_, '_>, said: &[api::RateLimit]) -> RateLimits {
    RateLimits {
        rules: rules(work, said, Place::Routes),
        ..RateLimits::default()
    }
}

/// What a route says, and what the rules of its virtual host read of it.
pub(crate) fn of_route(work: &mut Work<'_, '_>, said: &api::Route, of_host: &[MetadataKey]) -> RateLimits {
    let mut limits = RateLimits::default();
    if let Some(api::route::Action::Route(action)) = &said.action {
        work.at("route", |work| {
            limits.rules = rules(work, &action.rate_limits, Place::Routes);
        });
        limits.include_virtual_host = value::bool_or(action.include_vh_rate_limits.as_ref(), false);
    }
    if let Some(metadata) = &said.metadata {
        let own = keys(&limits.rules);
        for key in of_host.iter().chain(&own) {
            let known = limits.metadata.iter().any(|(known, _)| known == key);
            if let Some(text) = text(metadata, key).filter(|_| !known) {
                limits.metadata.push((key.clone(), text));
            }
        }
    }
    limits
}

/// What these rules read of a route's metadata.
pub(crate) fn keys(rules: &[Rule]) -> Vec<MetadataKey> {
    let actions = rules.iter().flat_map(|rule| &rule.actions);
    let keys = actions.filter_map(|action| match action {
        Action::Metadata {
            source: MetadataSource::Route,
            at,
            ..
        } => Some(at.clone()),
        _ => None,
    });
    keys.collect()
}

/// Whether the rules of a virtual host count.
pub(crate) fn virtual_host(said: VhRateLimitsOptions) -> VirtualHostLimits {
    match said {
        VhRateLimitsOptions::Override => VirtualHostLimits::Override,
        VhRateLimitsOptions::Include => VirtualHostLimits::Include,
        VhRateLimitsOptions::Ignore => VirtualHostLimits::Ignore,
    }
}

/// The text at a key, unless it is empty.
fn text(metadata: &Metadata, key: &MetadataKey) -> Option<Name> {
    let (first, rest) = key.path.split_first()?;
    let mut found: &Value = metadata
        .filter_metadata
        .get(&*key.namespace)?
        .fields
        .get(&**first)?;
    for name in rest {
        let Some(Kind::StructValue(inner)) = &found.kind else {
            return None;
        };
        found = inner.fields.get(&**name)?;
    }
    match &found.kind {
        Some(Kind::StringValue(text)) if !text.is_empty() => Some(text.as_str().into()),
        _ => None,
    }
}

/// `rate_limits`.
pub(crate) fn rules(work: &mut Work<'_, '_>, said: &[api::RateLimit], place: Place) -> Vec<Rule> {
    work.each("rate_limits", said, |work, said| rule(work, said, place))
}

fn rule(work: &mut Work<'_, '_>, said: &api::RateLimit, place: Place) -> Option<Rule> {
    work.review(said);
    if place != Place::Routes && (said.stage.is_some() || !said.disable_key.is_empty()) {
        work.wrong("'stage' field and 'disable_key' field are not supported");
    }
    if place != Place::Routes && said.limit.is_some() {
        work.wrong("'limit' field is not supported");
    }
    if said.actions.is_empty() {
        work.wrong_at("actions", "expected at least one action, found none");
    }
    let stage = value::number_or(work, "stage", said.stage.as_ref(), 0, 0..=STAGES);
    let actions = work.each("actions", &said.actions, |work, said| {
        if let (true, Some(ActionSpecifier::DynamicMetadata(_))) =
            (place != Place::Routes, &said.action_specifier)
        {
            work.wrong("Unsupported rate limit action: 7");
        }
        action(work, said)
    });
    let limit = match &said.limit {
        Some(said) => work.at("limit", |work| limit_override(work, said))?,
        None => None,
    };
    let hits = match &said.hits_addend {
        Some(_) if place == Place::Routes => {
            work.ignored("RateLimit.hits_addend");
            DescriptorHits::Unsaid
        }
        Some(said) => work.at("hits_addend", |work| hits(work, said))?,
        None => DescriptorHits::Unsaid,
    };
    let tell = match value::known(work, "x_ratelimit_option", said.x_ratelimit_option)? {
        said::XRateLimitOption::Unspecified => TellClients::AsFilter,
        said::XRateLimitOption::Off => TellClients::Never,
        said::XRateLimitOption::DraftVersion03 => TellClients::Draft03,
    };
    Some(Rule {
        stage: u8::try_from(stage).ok()?,
        has_disable_key: !said.disable_key.is_empty(),
        actions,
        limit,
        hits,
        gives_back: said
            .hits_addend
            .as_ref()
            .is_some_and(|hits| hits.is_negative_hits),
        tell,
    })
}

/// A limit in the place of the service's own; one from dynamic metadata is never there, as nothing writes such metadata.
#[expect(
    clippy::option_option,
    reason = "outside: no problem was noted; inside: there is one"
)]
fn limit_override(work: &mut Work<'_, '_>, said: &said::Override) -> Option<Option<LimitOverride>> {
    match &said.override_specifier {
        Some(r#override::OverrideSpecifier::RateLimit(limit)) => {
            let unit = value::known(work, "rate_limit.unit", limit.unit)?;
            Some(Some(LimitOverride {
                requests: limit.requests_per_unit,
                unit: self::unit(unit),
            }))
        }
        Some(r#override::OverrideSpecifier::DynamicMetadata(_)) => {
            work.ignored("RateLimit.Override.dynamic_metadata");
            Some(None)
        }
        None => {
            work.wrong("expected one of dynamic_metadata, rate_limit; found none");
            None
        }
    }
}

fn unit(said: RateLimitUnit) -> Unit {
    match said {
        RateLimitUnit::Unknown => Unit::Unknown,
        RateLimitUnit::Second => Unit::Second,
        RateLimitUnit::Minute => Unit::Minute,
        RateLimitUnit::Hour => Unit::Hour,
        RateLimitUnit::Day => Unit::Day,
        RateLimitUnit::Month => Unit::Month,
        RateLimitUnit::Year => Unit::Year,
    }
}

fn hits(work: &mut Work<'_, '_>, said: &said::HitsAddend) -> Option<DescriptorHits> {
    match (&said.number, said.format.as_str()) {
        (Some(number), "") if number.value <= MOST_HITS => Some(DescriptorHits::Number(number.value)),
        (Some(number), "") => {
            work.wrong_at(
                "number",
                format!("expected at most {MOST_HITS}, found {}", number.value),
            );
            None
        }
        (None, format) if !format.is_empty() => {
            let pieces = pieces(work, "format", format)?;
            if pieces.len() != 1 {
                work.wrong("hits_addend format must contain exactly one substitution");
                return None;
            }
            Some(DescriptorHits::Format(Arc::new(Format::Text {
                pieces,
                omit_empty: true,
            })))
        }
        _ => {
            work.wrong("hits_addend must contain either a format or a number");
            None
        }
    }
}

fn action(work: &mut Work<'_, '_>, said: &said::Action) -> Option<Action> {
    match &said.action_specifier {
        Some(ActionSpecifier::SourceCluster(_)) => Some(Action::SourceCluster),
        Some(ActionSpecifier::DestinationCluster(_)) => Some(Action::DestinationCluster),
        Some(ActionSpecifier::RemoteAddress(_)) => Some(Action::RemoteAddress),
        Some(ActionSpecifier::RequestHeaders(said)) => work.at("request_headers", |work| {
            let name = matcher::header_name(work, "header_name", &said.header_name);
            let key = value::required(work, "descriptor_key", &said.descriptor_key)?;
            Some(Action::RequestHeader {
                name: name?,
                key: key.into(),
                skip_if_absent: said.skip_if_absent,
            })
        }),
        Some(ActionSpecifier::QueryParameters(said)) => work.at("query_parameters", |work| {
            let name = value::required(work, "query_parameter_name", &said.query_parameter_name);
            let key = value::required(work, "descriptor_key", &said.descriptor_key)?;
            Some(Action::QueryParameter {
                name: name?.into(),
                key: key.into(),
                skip_if_absent: said.skip_if_absent,
            })
        }),
        Some(ActionSpecifier::MaskedRemoteAddress(said)) => {
            work.at("masked_remote_address", |work| masked_address(work, said))
        }
        Some(ActionSpecifier::GenericKey(said)) => work.at("generic_key", |work| {
            entry(work, &said.descriptor_key, "generic_key", &said.descriptor_value).map(Action::GenericKey)
        }),
        Some(ActionSpecifier::HeaderValueMatch(said)) => {
            work.at("header_value_match", |work| header_value_match(work, said))
        }
        Some(ActionSpecifier::QueryParameterValueMatch(said)) => {
            work.at("query_parameter_value_match", |work| query_match(work, said))
        }
        Some(ActionSpecifier::RemoteAddressMatch(said)) => {
            work.at("remote_address_match", |work| address_match(work, said))
        }
        Some(ActionSpecifier::Metadata(said)) => work.at("metadata", |work| metadata(work, said)),
        Some(ActionSpecifier::DynamicMetadata(said)) => {
            work.at("dynamic_metadata", |work| dynamic_metadata(work, said))
        }
        Some(ActionSpecifier::Extension(_)) => {
            work.wrong_at("extension", "is not supported: descriptors by extension");
            None
        }
        None => {
            work.wrong("expected an action, found none");
            None
        }
    }
}

fn masked_address(work: &mut Work<'_, '_>, said: &action::MaskedRemoteAddress) -> Option<Action> {
    let (v4, v6) = (said.v4_prefix_mask_len.as_ref(), said.v6_prefix_mask_len.as_ref());
    let v4 = value::number_or(work, "v4_prefix_mask_len", v4, 32, 0..=32);
    let v6 = value::number_or(work, "v6_prefix_mask_len", v6, 128, 0..=128);
    Some(Action::MaskedRemoteAddress {
        v4: u8::try_from(v4).ok()?,
        v6: u8::try_from(v6).ok()?,
    })
}

fn some(text: &str) -> Option<Name> {
    (!text.is_empty()).then(|| text.into())
}

/// An entry whose key has a default. Its value is a text even where it has operators, as in Envoy by default.
fn entry(work: &mut Work<'_, '_>, key: &str, default: &str, value: &str) -> Option<Entry> {
    let value = value::required(work, "descriptor_value", value)?;
    Some(Entry::new(if key.is_empty() { default } else { key }, value))
}

fn expected(said: Option<&BoolValue>) -> bool {
    value::bool_or(said, true)
}

fn header_value_match(work: &mut Work<'_, '_>, said: &action::HeaderValueMatch) -> Option<Action> {
    let entry = entry(work, &said.descriptor_key, "header_match", &said.descriptor_value);
    if said.headers.is_empty() {
        work.wrong_at("headers", "expected at least one header, found none");
    }
    Some(Action::HeaderValueMatch {
        headers: work.each("headers", &said.headers, matcher::header),
        expected: expected(said.expect_match.as_ref()),
        entry: entry?,
    })
}

fn query_match(work: &mut Work<'_, '_>, said: &action::QueryParameterValueMatch) -> Option<Action> {
    let entry = entry(work, &said.descriptor_key, "query_match", &said.descriptor_value);
    if said.query_parameters.is_empty() {
        work.wrong_at("query_parameters", "expected at least one parameter, found none");
    }
    Some(Action::QueryParameterValueMatch {
        parameters: work.each("query_parameters", &said.query_parameters, matcher::query),
        expected: expected(said.expect_match.as_ref()),
        entry: entry?,
    })
}

fn address_match(work: &mut Work<'_, '_>, said: &action::RemoteAddressMatch) -> Option<Action> {
    let key = "remote_address_match";
    let entry = entry(work, &said.descriptor_key, key, &said.descriptor_value);
    if said.descriptor_value.contains('%') {
        work.wrong_at("descriptor_value", "is not supported: operators in a value");
    }
    let Some(matcher) = &said.address_matcher else {
        work.wrong_at("address_matcher", "expected a matcher, found none");
        return None;
    };
    let ranges = work.at("address_matcher", |work| {
        work.each("ranges", &matcher.ranges, |work, range: &CidrRange| {
            let prefix_len = range
                .prefix_len
                .as_ref()
                .map(|length| crate::pb::google::protobuf::UInt32Value { value: length.value });
            let range = crate::pb::envoy::config::core::v3::CidrRange {
                address_prefix: range.address_prefix.clone(),
                prefix_len,
            };
            value::cidr(work, &range)
        })
    });
    Some(Action::RemoteAddressMatch {
        entry: entry?,
        ranges,
        invert: matcher.invert_match,
    })
}

fn metadata(work: &mut Work<'_, '_>, said: &action::MetaData) -> Option<Action> {
    use action::meta_data::Source;
    let source = match value::known(work, "source", said.source)? {
        Source::Dynamic => MetadataSource::Dynamic,
        Source::RouteEntry => MetadataSource::Route,
        Source::ClusterEntry | Source::ClusterLocalityEntry => {
            work.wrong_at("source", "is not supported: metadata of clusters and localities");
            return None;
        }
    };
    let at = metadata_key(work, "metadata_key", said.metadata_key.as_ref());
    let key = value::required(work, "descriptor_key", &said.descriptor_key)?;
    Some(Action::Metadata {
        source,
        at: at?,
        key: key.into(),
        default: some(&said.default_value),
        skip_if_absent: said.skip_if_absent,
    })
}

/// The deprecated form of [`metadata`].
fn dynamic_metadata(work: &mut Work<'_, '_>, said: &action::DynamicMetaData) -> Option<Action> {
    let at = metadata_key(work, "metadata_key", said.metadata_key.as_ref());
    let key = value::required(work, "descriptor_key", &said.descriptor_key)?;
    Some(Action::Metadata {
        source: MetadataSource::Dynamic,
        at: at?,
        key: key.into(),
        default: some(&said.default_value),
        skip_if_absent: false,
    })
}

/// A `MetadataKey` of dynamic metadata.
pub(crate) fn metadata_key(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&SaidKey>,
) -> Option<MetadataKey> {
    work.at(field, |work| {
        let Some(said) = said else {
            work.wrong("expected a key, found none");
            return None;
        };
        if said.path.is_empty() {
            work.wrong_at("path", "expected at least one segment, found none");
        }
        let namespace = value::required(work, "key", &said.key)?;
        let path = work.each("path", &said.path, |work, segment| match &segment.segment {
            Some(Segment::Key(key)) => value::required(work, "key", key).map(Name::from),
            Some(Segment::Index(_)) => {
                work.wrong_at("index", "is not supported: elements of lists");
                None
            }
            None => {
                work.wrong("expected a key, found none");
                None
            }
        });
        Some(MetadataKey {
            namespace: namespace.into(),
            path,
        })
    })
}

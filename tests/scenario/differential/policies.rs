//! Rows about role-based access control: every principal, permission and matcher with requests that tell its cases
//! apart, each as ALLOW and as DENY. What was decided stands in the answer, with the policy that decided.

use serde_json::{Value, json};

use super::config::to;
use super::filters::config;
use super::generated::Table;

/// The filter, whose own policy is none.
pub(crate) fn chain() -> Vec<Value> {
    let tracked = json!({"track_per_rule_stats": true});
    vec![json!({"name": "policy", "typed_config": config("rbac.v3.RBAC", tracked)})]
}

/// One route with this policy, which tells what was noted.
fn judged(policy: Value) -> Vec<Value> {
    let mut route = to("a", "/", json!({}));
    route["typed_per_filter_config"] =
        json!({"policy": config("rbac.v3.RBACPerRoute", json!({"rbac": policy}))});
    // What is noted of a refusal itself, Envoy notes after its answer is made.
    let noted = "%DYNAMIC_METADATA(envoy.filters.http.rbac:next_shadow_effective_policy_id)% \
        %DYNAMIC_METADATA(envoy.filters.http.rbac:next_shadow_engine_result)% %DYNAMIC_METADATA(envoy.common)%";
    route["response_headers_to_add"] = json!([
        {"header": {"key": "x-noted", "value": noted}},
        {"header": {"key": "x-details", "value": "%RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%"}},
    ]);
    vec![route]
}

fn requests(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(path, lines): &(&str, &str)| ((*path).to_owned(), (*lines).to_owned());
    all.iter().map(owned).collect()
}

fn rules(action: &str, permission: &Value, principal: &Value) -> Value {
    json!({"rules": {"action": action, "policies": {"the policy": {"permissions": [permission], "principals": [principal]}}}})
}

/// `name | permission`, one a line; in all of these tables `@word` stands for what [`expanded`] says.
const PERMISSIONS: &str = r#"
any | {"any": true}
header exact | "@one"
header prefix | {"header": {"name": "x-h", "string_match": {"prefix": "o"}}}
header inverted | {"header": {"name": "x-h", "string_match": {"exact": "one"}, "invert_match": true}}
header present | {"header": {"name": "x-h", "present_match": true}}
header absent | {"header": {"name": "x-h", "present_match": false}}
header regex | {"header": {"name": "x-h", "string_match": {"safe_regex": {"regex": "t.o|one"}}}}
header range | {"header": {"name": "x-h", "range_match": {"start": 1, "end": 8}}}
method | {"header": {"name": ":method", "string_match": {"exact": "POST"}}}
authority | {"header": {"name": ":authority", "string_match": {"suffix": ".test"}}}
path header | {"header": {"name": ":path", "string_match": {"exact": "/private?a=1"}}}
path exact | {"url_path": {"path": {"exact": "/private"}}}
path prefix | "@private"
path without case | {"url_path": {"path": {"prefix": "/PRIV", "ignore_case": true}}}
path regex | {"url_path": {"path": {"safe_regex": {"regex": "/private(/.*)?"}}}}
not | {"not_rule": "@private"}
and | {"and_rules": {"rules": ["@private", "@one"]}}
or | {"or_rules": {"rules": ["@private", "@one"]}}
not or | {"not_rule": {"or_rules": {"rules": ["@private", "@one"]}}}
destination | {"destination_ip": "@here"}
other destination | {"destination_ip": "@there"}
port | {"destination_port": 1}
ports | {"destination_port_range": {"start": 1024, "end": 65536}}
server name | {"requested_server_name": {"exact": ""}}
other server name | {"requested_server_name": {"suffix": ".test"}}
metadata | {"metadata": {"filter": "n", "path": [{"key": "k"}], "value": {"present_match": true}}}
metadata text | {"metadata": {"filter": "n", "path": [{"key": "k"}], "value": {"string_match": {"exact": ""}}}}
template | {"uri_template": "@template"}
sourced | {"sourced_metadata": {"metadata_matcher": {"filter": "n", "path": [{"key": "k"}], "value": {"null_match": {}}, "invert": true}}}
"#;

const PRINCIPALS: &str = r#"
source | {"source_ip": "@here"}
source elsewhere | {"source_ip": "@there"}
direct | {"direct_remote_ip": "@here"}
direct elsewhere | {"direct_remote_ip": "@there"}
remote | {"remote_ip": "@there"}
not remote | {"not_id": {"remote_ip": "@there"}}
named | {"authenticated": {"principal_name": {"prefix": "spiffe://"}}}
authenticated | {"authenticated": {}}
header | "@one"
path | {"url_path": {"path": {"exact": "/private"}}}
and | {"and_ids": {"ids": ["@one", {"not_id": {"remote_ip": "@there"}}]}}
or | {"or_ids": {"ids": ["@one", {"remote_ip": "@there"}]}}
"#;

const TREES: &str = r#"
nothing but a default | {"on_no_match": "@DENY"}
a default that logs | {"on_no_match": "@LOG"}
list | {"matcher_list": {"matchers": [{"predicate": "@is one", "on_match": "@ALLOW"}, {"predicate": "@is 7", "on_match": "@DENY"}]}}
list with a default | {"matcher_list": {"matchers": [{"predicate": "@is one", "on_match": "@DENY"}]}, "on_no_match": "@ALLOW"}
not | {"matcher_list": {"matchers": [{"predicate": {"not_matcher": "@is one"}, "on_match": "@DENY"}]}, "on_no_match": "@LOG"}
or | {"matcher_list": {"matchers": [{"predicate": {"or_matcher": {"predicate": ["@is one", "@is two"]}}, "on_match": "@ALLOW"}]}}
and | {"matcher_list": {"matchers": [{"predicate": {"and_matcher": {"predicate": ["@is one", {"single_predicate": {"input": "@network DestinationIPInput", "value_match": {"exact": "127.0.0.1"}}}]}}, "on_match": "@ALLOW"}]}}
source | {"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": "@network SourceIPInput", "value_match": {"prefix": "10.1."}}}, "on_match": "@DENY"}, {"predicate": {"single_predicate": {"input": "@network SourceIPInput", "custom_match": "@ranges"}}, "on_match": "@ALLOW"}]}}
direct source | {"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": "@network DirectSourceIPInput", "custom_match": "@ranges"}}, "on_match": "@ALLOW"}]}}
port | {"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": "@network DestinationPortInput", "value_match": {"exact": "80"}}}, "on_match": "@DENY"}]}, "on_no_match": "@ALLOW"}
server name | {"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": "@network ServerNameInput", "value_match": {"exact": ""}}}, "on_match": "@DENY"}]}, "on_no_match": "@ALLOW"}
uri name | {"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": "@ssl UriSanInput", "value_match": {"prefix": "spiffe://"}}}, "on_match": "@DENY"}]}, "on_no_match": "@ALLOW"}
dns name | {"matcher_list": {"matchers": [{"predicate": {"not_matcher": {"single_predicate": {"input": "@ssl DnsSanInput", "value_match": {"prefix": "a"}}}}, "on_match": "@ALLOW"}]}}
name or header | {"matcher_list": {"matchers": [{"predicate": {"or_matcher": {"predicate": ["@is one", {"single_predicate": {"input": "@ssl SubjectInput", "value_match": {"prefix": "a"}}}]}}, "on_match": "@ALLOW"}]}}
header and name | {"matcher_list": {"matchers": [{"predicate": {"and_matcher": {"predicate": ["@is one", {"single_predicate": {"input": "@ssl SubjectInput", "value_match": {"prefix": "a"}}}]}}, "on_match": "@DENY"}]}, "on_no_match": "@ALLOW"}
map of names | {"matcher_tree": {"input": "@ssl UriSanInput", "exact_match_map": {"map": {"a": "@DENY"}}}, "on_no_match": "@ALLOW"}
nested | {"matcher_list": {"matchers": [{"predicate": "@is one", "on_match": {"matcher": {"matcher_list": {"matchers": [{"predicate": "@is two", "on_match": "@DENY"}]}}}}, {"predicate": "@is one", "on_match": "@ALLOW"}]}, "on_no_match": "@DENY"}
map | {"matcher_tree": {"input": "@header", "exact_match_map": {"map": {"one": "@ALLOW", "7": "@DENY"}}}, "on_no_match": "@LOG"}
map of beginnings | {"matcher_tree": {"input": "@header", "prefix_match_map": {"map": {"o": "@DENY", "on": "@ALLOW", "t": "@ALLOW"}}}}
"#;

/// The lines of a table.
fn lines(table: &'static str) -> impl Iterator<Item = (&'static str, Value)> {
    table
        .lines()
        .filter_map(|line| line.split_once(" | "))
        .map(|(name, text)| {
            // What cannot be read is no policy: both proxies refuse it.
            (name, expanded(serde_json::from_str(text).unwrap_or_default()))
        })
}

fn expanded(value: Value) -> Value {
    match value {
        Value::Array(all) => all.into_iter().map(expanded).collect(),
        Value::Object(all) => {
            let fields = all.into_iter().map(|(key, value)| (key, expanded(value)));
            Value::Object(fields.collect())
        }
        Value::String(text) => match text.strip_prefix('@') {
            Some(word) => meant(word),
            None => Value::String(text),
        },
        other => other,
    }
}

fn meant(word: &str) -> Value {
    let common =
        |package: &str, kind: &str| input(&format!("extensions.matching.common_inputs.{package}.v3.{kind}"));
    match word.split_once(' ').unwrap_or((word, "")) {
        ("one", _) => json!({"header": {"name": "x-h", "string_match": {"exact": "one"}}}),
        ("private", _) => json!({"url_path": {"path": {"prefix": "/private"}}}),
        ("here", _) => json!({"address_prefix": "127.0.0.0", "prefix_len": 8}),
        ("there", _) => json!({"address_prefix": "10.1.0.0", "prefix_len": 16}),
        ("is", text) => {
            json!({"single_predicate": {"input": meant("header"), "value_match": {"exact": text}}})
        }
        ("header", _) => {
            let mut header = input("type.matcher.v3.HttpRequestHeaderMatchInput");
            header["typed_config"]["header_name"] = "x-h".into();
            header
        }
        ("ranges", _) => {
            let kind = harness::bootstrap::type_url("extensions.matching.input_matchers.ip.v3.Ip");
            json!({"name": "ip", "typed_config": {"@type": kind, "stat_prefix": "ip", "cidr_ranges": [meant("here")]}})
        }
        ("template", _) => {
            let kind =
                harness::bootstrap::type_url("extensions.path.match.uri_template.v3.UriTemplateMatchConfig");
            json!({"name": "t", "typed_config": {"@type": kind, "path_template": "/{anything}"}})
        }
        (package @ ("network" | "ssl"), kind) => common(package, kind),
        (action, _) => {
            let kind = harness::bootstrap::type_url("config.rbac.v3.Action");
            let name = format!("to {action}");
            json!({"action": {"name": "a", "typed_config": {"@type": kind, "name": name, "action": action}}})
        }
    }
}

fn input(kind: &str) -> Value {
    json!({"name": "i", "typed_config": {"@type": harness::bootstrap::type_url(kind)}})
}

/// Requests whose headers have one value each.
const REQUESTS: &[(&str, &str)] = &[
    ("/", ""),
    ("/private", "x-h: one\n"),
    ("/private?a=1", "x-h: 7\n"),
    ("/a/../private/b", "x-forwarded-for: 10.1.2.3\n"),
    ("/", "content-length: 0\nx-h: two\n"),
];

/// Several values of one header; where one of them alone would be let in, we refuse and Envoy does not.
const SEVERAL: &[(&str, &str)] = &[
    ("/", "x-h: one\nx-h: one\n"),
    ("/", "x-h: two\nx-h: three\n"),
    ("/", "x-h: one\nx-h: two\n"),
    ("/", "x-h: two\nx-h: one\n"),
];

/// Adds the rows.
pub(crate) fn add(table: &mut Table) {
    let any = json!({"any": true});
    for action in ["ALLOW", "DENY"] {
        for (name, permission) in lines(PERMISSIONS) {
            let policy = rules(action, &permission, &any);
            table.add(
                &format!("policy {action} permission {name}"),
                judged(policy),
                &requests(REQUESTS),
            );
        }
        for (name, principal) in lines(PRINCIPALS) {
            let policy = rules(action, &any, &principal);
            table.add(
                &format!("policy {action} principal {name}"),
                judged(policy),
                &requests(REQUESTS),
            );
        }
        let several = if action == "ALLOW" { &SEVERAL[..2] } else { SEVERAL };
        table.add(
            &format!("policy {action} several values"),
            judged(rules(action, &meant("one"), &any)),
            &requests(several),
        );
    }
    for (name, tree) in lines(TREES) {
        table.add(
            &format!("policy tree {name}"),
            judged(json!({ "matcher": tree })),
            &requests(REQUESTS),
        );
    }
    let log = rules("LOG", &meant("one"), &any);
    table.add("policy LOG", judged(log), &requests(REQUESTS));
    let mut shadow = rules("ALLOW", &any, &any);
    shadow["shadow_rules"] = rules("DENY", &meant("one"), &any)["rules"].clone();
    shadow["shadow_rules_stat_prefix"] = "next_".into();
    shadow["track_per_rule_stats"] = true.into();
    table.add("policy with a shadow", judged(shadow), &requests(REQUESTS));
    let both = json!({"rules": {"action": "ALLOW"}, "matcher": {"on_no_match": meant("ALLOW")}});
    table.add("policy in both dialects", judged(both), &requests(REQUESTS));
    table.add(
        "policy that allows nobody",
        judged(json!({"rules": {}})),
        &requests(REQUESTS),
    );
    table.add("policy that says nothing", judged(json!({})), &requests(REQUESTS));
    let grpc = [("/private", "content-type: application/grpc\nx-h: one\n")];
    table.add(
        "policy DENY of a call",
        judged(rules("DENY", &meant("one"), &any)),
        &requests(&grpc),
    );
}

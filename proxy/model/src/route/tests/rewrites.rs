//! Redirects and rewrites.

use regex::Regex;

use super::*;
use crate::matching::whole_match;

fn location(redirect: &Redirect, matched: &PathMatch, authority: &str, path_and_query: &str) -> String {
    redirect.location(
        matched,
        &Asked {
            scheme: "http",
            authority,
            path_and_query,
        },
        &Silent,
    )
}

fn redirect(scheme: Option<&str>, host: Option<&str>, port: Option<u16>, path: RedirectPath) -> Redirect {
    Redirect {
        scheme: scheme.map(Into::into),
        host: host.map(Into::into),
        port,
        path,
        status: StatusCode::MOVED_PERMANENTLY,
        strip_query: false,
    }
}

#[test]
fn redirects_keep_or_replace_host_and_port_as_envoy_does() {
    let keep = || RedirectPath::Keep;
    for (redirect, authority, expected) in [
        (redirect(Some("https"), None, None, keep()), "h", "https://h/o?q"),
        (
            redirect(Some("https"), None, None, keep()),
            "h:80",
            "https://h/o?q",
        ),
        (
            redirect(Some("https"), None, None, keep()),
            "h:8080",
            "https://h:8080/o?q",
        ),
        (
            redirect(Some("http"), None, None, keep()),
            "h:80",
            "http://h:80/o?q",
        ),
        (
            redirect(None, Some("new.com"), None, keep()),
            "h:80",
            "http://new.com/o?q",
        ),
        (
            redirect(None, None, Some(9000), keep()),
            "h:80",
            "http://h:9000/o?q",
        ),
        (
            redirect(Some("https"), None, Some(443), keep()),
            "h:80",
            "https://h:443/o?q",
        ),
        (
            redirect(None, Some("new.com"), Some(80), keep()),
            "h",
            "http://new.com:80/o?q",
        ),
    ] {
        assert_eq!(location(&redirect, &prefix("/"), authority, "/o?q"), expected);
    }
}

#[test]
fn redirects_rewrite_paths_as_envoy_does() {
    let whole = |path: &str| RedirectPath::Whole(path.into());
    let to = |path: &str| RedirectPath::Prefix(path.into());
    let regex = |from: &str, to: &str| RedirectPath::Regex(Regex::new(from).unwrap(), to.into());
    for (rewrite, matched, path, expected) in [
        (whole("/new"), prefix("/"), "/old/x?q=1", "/new?q=1"),
        (whole("/new"), prefix("/"), "/y?", "/new?"),
        (whole("/new?z=1"), prefix("/"), "/old/x?q=1", "/new?z=1"),
        (to("/new"), prefix("/old"), "/old/x?q=1", "/new/x?q=1"),
        (to("/"), prefix("/old/"), "/old/x?q=1", "/x?q=1"),
        (
            to("/new"),
            PathMatch::Exact(Pattern::new("/old/x", false)),
            "/old/x?q=1",
            "/new?q=1",
        ),
        (
            to("/"),
            PathMatch::SeparatedPrefix(Pattern::new("/old", false)),
            "/old/x?q=1",
            "//x?q=1",
        ),
        (
            to("/new"),
            PathMatch::Prefix(Pattern::new("/OLD", true)),
            "/old/x?q=1",
            "/new/x?q=1",
        ),
        (
            to("/new"),
            PathMatch::Regex(whole_match("/o.*").unwrap()),
            "/old/x?q=1",
            "/new?q=1",
        ),
        (
            regex("^/(o.d)/(.*)$", r"/\2/\1"),
            prefix("/"),
            "/old/x?q=1",
            "/x/old?q=1",
        ),
        (regex("d", r"\0D\\"), prefix("/"), "/old/x?q=1", r"/oldD\/x?q=1"),
    ] {
        let redirect = redirect(None, None, None, rewrite);
        assert_eq!(
            location(&redirect, &matched, "h", path),
            format!("http://h{expected}")
        );
    }
    let stripped = Redirect {
        strip_query: true,
        ..redirect(None, None, None, RedirectPath::Keep)
    };
    assert_eq!(
        location(&stripped, &prefix("/"), "h", "/old/x?q=1"),
        "http://h/old/x"
    );
}

#[test]
fn forwarded_paths_and_hosts_are_rewritten_as_envoy_does() {
    let regex = |from: &str, to: &str| PathRewrite::Regex(Box::new((Regex::new(from).unwrap(), to.into())));
    for (rewrite, matched, path, expected) in [
        (
            PathRewrite::Prefix("/new".into()),
            prefix("/old"),
            "/oldies?x",
            Some("/newies?x"),
        ),
        (
            PathRewrite::Prefix("/n/".into()),
            prefix("/"),
            "/old?z=/old",
            Some("/n/old?z=/old"),
        ),
        (regex("o", "0"), prefix("/"), "/old/x?q=o", Some("/0ld/x?q=o")),
        (
            regex("^/(o.d)/(.*)$", r"/\2/\1"),
            prefix("/"),
            "/oldies?x",
            Some("/oldies?x"),
        ),
        (PathRewrite::Keep, prefix("/"), "/old", None),
    ] {
        assert_eq!(
            rewrite.apply(&matched, path, &Silent).as_deref(),
            expected,
            "{path}"
        );
    }
    let with_host = headers(&[("x-host", "from-header")]);
    let facts = facts("h", "/old/x?q", &with_host);
    let header = |name| HostRewrite::Header(HeaderName::from_static(name));
    let by_path = HostRewrite::PathRegex(Box::new((Regex::new("^/([^/]+)/.*$").unwrap(), r"\1.svc".into())));
    assert_eq!(
        header("x-host").apply(&facts, None, &Silent).unwrap(),
        "from-header"
    );
    assert_eq!(header("x-none").apply(&facts, None, &Silent), None);
    assert_eq!(by_path.apply(&facts, None, &Silent).unwrap(), "old.svc");
    assert_eq!(
        HostRewrite::Endpoint.apply(&facts, Some("e"), &Silent).unwrap(),
        "e"
    );
    assert_eq!(HostRewrite::Endpoint.apply(&facts, None, &Silent), None);
}

/// Every format prints nothing.
struct Silent;

impl Render for Silent {
    fn render(&self, _: &crate::log::Format) -> Option<HeaderValue> {
        None
    }
}

fn level(name: &'static str, remove: &[&'static str], add: &[&'static str]) -> HeaderMutationPair {
    let template = |header: &'static str, action| HeaderTemplate {
        name: HeaderName::from_static(header),
        value: HeaderValueTemplate::Constant(HeaderValue::from_static(name)),
        action,
        keep_empty: false,
    };
    let mut additions = vec![
        template("x-a", AppendAction::AppendIfExistsOrAdd),
        template("x-o", AppendAction::OverwriteIfExistsOrAdd),
        template("x-first", AppendAction::AddIfAbsent),
    ];
    additions.extend(
        add.iter()
            .map(|header| template(header, AppendAction::AppendIfExistsOrAdd)),
    );
    let remove = remove
        .iter()
        .map(|header| HeaderName::from_static(header))
        .collect();
    let request = HeaderMutations {
        add: additions,
        remove,
    };
    HeaderMutationPair::new(request.clone(), request)
}

#[test]
fn levels_mutate_in_envoys_order() {
    for (most_specific_wins, all, last, added_and_removed) in [
        (false, ["wc", "route", "vh", "rc"], "rc", None),
        (true, ["wc", "rc", "vh", "route"], "route", Some("route")),
    ] {
        let entry = WeightedCluster {
            labels: None,
            cluster: ClusterId::from_index(0),
            weight: 1,
            host_rewrite: None,
            headers: level("wc", &[], &[]),
            filters: Default::default(),
        };
        let clusters = Arc::new(WeightedClusters {
            entries: vec![entry],
            total: 1,
        });
        let mut route =
            Arc::into_inner(route(prefix("/"), forward(ClusterChoice::Weighted(clusters)))).unwrap();
        route.headers = level("route", &["x-self"], &["x-self", "x-gone"]);
        let mut virtual_host = Arc::into_inner(host("v", &["*"], vec![Arc::new(route)])).unwrap();
        virtual_host.headers = level("vh", &["x-gone"], &[]);
        let mut table = table(vec![Arc::new(virtual_host)], false);
        table.headers = level("rc", &[], &[]);
        table.most_specific_wins = most_specific_wins;
        let mut sent = headers(&[("x-a", "c"), ("x-self", "c"), ("x-gone", "c")]);
        let asked = sent.clone();
        let outcome = table.decide(&facts("h", "/", &asked), &mut fastrand::Rng::with_seed(1));
        let Outcome::Taken(decision) = outcome else {
            panic!("{outcome:?}")
        };
        decision.mutate_request(&mut sent, &Silent);
        let values =
            |name: &str| -> Vec<&str> { sent.get_all(name).iter().map(|v| v.to_str().unwrap()).collect() };
        assert_eq!(values("x-a"), [&["c"], &all[..]].concat());
        assert_eq!((values("x-o"), values("x-first")), (vec![last], vec!["wc"]));
        assert_eq!(
            (values("x-self"), values("x-gone")),
            (vec!["route"], added_and_removed.into_iter().collect())
        );
        let mut answered = HeaderMap::new();
        decision.mutate_response(&mut answered, &Silent);
        assert_eq!(answered.get_all("x-a").iter().collect::<Vec<_>>(), all);
    }
}

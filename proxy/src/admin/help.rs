//! The list of commands, as text and as a page.

use std::fmt::Write;

/// One path of the admin port.
pub(super) struct Entry {
    /// Path.
    pub(super) path: &'static str,
    /// Asked for by POST only, because it changes something.
    pub(super) changes: bool,
    /// What it does.
    pub(super) about: &'static str,
    /// Parameters and what they do.
    pub(super) parameters: &'static [(&'static str, &'static str)],
}

const fn entry(
    path: &'static str,
    about: &'static str,
    parameters: &'static [(&'static str, &'static str)],
) -> Entry {
    Entry {
        path,
        changes: false,
        about,
        parameters,
    }
}

const fn order(
    path: &'static str,
    about: &'static str,
    parameters: &'static [(&'static str, &'static str)],
) -> Entry {
    Entry {
        path,
        changes: true,
        about,
        parameters,
    }
}

const STATS: &[(&str, &str)] = &[
    ("usedonly", "only what was counted into since the start"),
    ("filter", "regular expression that finds the name"),
    ("format", "text, json or prometheus"),
    ("type", "All, Counters, Gauges, Histograms or TextReadouts"),
];

/// Every path, in order.
pub(super) const COMMANDS: &[Entry] = &[
    entry("/", "this list as a page", &[]),
    entry("/certs", "certificates in use and their validity", &[]),
    entry(
        "/clusters",
        "clusters and their endpoints",
        &[
            ("format", "text or json"),
            ("filter", "regular expression that finds the name"),
        ],
    ),
    entry(
        "/config_dump",
        "configuration as it was received",
        &[
            (
                "resource",
                "only the elements of this field, for example dynamic_listeners",
            ),
            ("mask", "only these fields"),
            ("name_regex", "only resources with such names"),
            ("include_eds", "endpoints too"),
        ],
    ),
    entry("/contention", "lock contention, which is not traced", &[]),
    order(
        "/drain_listeners",
        "drain listeners",
        &[
            ("graceful", "go on accepting for the drain time"),
            ("inboundonly", "only listeners for inbound traffic"),
            ("skip_exit", "drain connections, keep the listeners"),
        ],
    ),
    order("/healthcheck/fail", "fail health checks of this server", &[]),
    order("/healthcheck/ok", "pass health checks of this server", &[]),
    entry("/help", "this list", &[]),
    entry("/hot_restart_version", "hot restart, which there is none of", &[]),
    entry(
        "/init_dump",
        "what is waited for before this server is ready",
        &[],
    ),
    entry(
        "/listeners",
        "listeners and where they are bound",
        &[("format", "text or json")],
    ),
    order(
        "/logging",
        "show or change log levels",
        &[
            ("level", "one level for all"),
            ("paths", "name:level,name:level"),
            ("NAME", "level of one component"),
        ],
    ),
    entry("/memory", "memory of this process", &[]),
    order("/quitquitquit", "end this process", &[]),
    entry(
        "/ready",
        "200 if this server is live, else 503 and the reason",
        &[],
    ),
    order("/reopen_logs", "open the files of access logs again", &[]),
    order("/reset_counters", "set all counters to zero", &[]),
    entry("/runtime", "runtime values, which there are none of", &[]),
    entry("/server_info", "version, state and command line", &[]),
    entry("/stats", "metrics", STATS),
    entry(
        "/stats/prometheus",
        "metrics in the Prometheus text format",
        STATS,
    ),
    entry(
        "/xds",
        "whether the configuration is up to date, and if not, why",
        &[
            ("format", "text or json"),
            ("resources", "every resource with its version and status"),
        ],
    ),
];

/// The list as text.
pub(super) fn text(out: &mut String) {
    out.push_str("admin commands are:\n");
    for entry in COMMANDS {
        let post = if entry.changes { " (POST)" } else { "" };
        let _ = writeln!(out, "  {}{post}: {}", entry.path, entry.about);
        for (name, about) in entry.parameters {
            let _ = writeln!(out, "      {name}: {about}");
        }
    }
}

/// The list as a page: links for what shows, buttons for what changes.
pub(super) fn page() -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<title>Remora Admin</title>\n<style>\nbody { font-family: sans-serif; \
         margin: 2em; }\ntd { padding: 4px 12px 4px 0; }\nform { margin: 0; }\n</style>\n</head>\n<body>\n<h1>Remora \
         Admin</h1>\n<table>\n",
    );
    for entry in COMMANDS {
        let (path, about) = (entry.path, entry.about);
        let _ = if entry.changes {
            writeln!(
                out,
                "<tr><td><form action='{path}' method='post'><button>{path}</button></form></td><td>{about}</td></tr>"
            )
        } else {
            writeln!(
                out,
                "<tr><td><a href='{path}'>{path}</a></td><td>{about}</td></tr>"
            )
        };
    }
    out.push_str("</table>\n</body>\n</html>\n");
    out
}

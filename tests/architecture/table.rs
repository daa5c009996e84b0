//! The import table: who may name whom. Data only; `rules.rs` holds the code to it.
//!
//! A new module or a new edge is a decision about the house, so it is a line here, with its reason where the reason is
//! not the module's own name. What a table allows and nobody uses any more is taken out (a test says so).

/// What one workspace member may depend on among the others, and which packages it must never see.
pub(crate) struct Member {
    pub(crate) folder: &'static str,
    /// Name in `use` paths.
    pub(crate) name: &'static str,
    /// Other members that its production code may name.
    pub(crate) may_name: &'static [&'static str],
    /// Packages that may not stand in its `[dependencies]` and that its production code may not name.
    pub(crate) never: &'static [&'static str],
}

/// Protobuf in any form. The proxy speaks of `remora_model` only; `remora_translate` is the edge.
const PROTOBUF: &[&str] = &[
    "remora_proto",
    "envoy_types",
    "prost",
    "prost_types",
    "prost_reflect",
    "tonic",
    "tonic_prost",
];

/// The five members of production code.
pub(crate) const MEMBERS: &[Member] = &[
    Member {
        folder: "proto",
        name: "remora_proto",
        may_name: &[],
        never: &["tokio", "hyper", "h2", "rustls", "tonic"],
    },
    Member {
        folder: "xds-client",
        name: "remora_xds_client",
        may_name: &[],
        never: &[
            "remora_proto",
            "envoy_types",
            "prost_types",
            "prost_reflect",
            "h2",
            "rustls",
        ],
    },
    Member {
        folder: "proxy/model",
        name: "remora_model",
        may_name: &[],
        never: &[
            "remora_proto",
            "envoy_types",
            "prost",
            "prost_types",
            "prost_reflect",
            "tonic",
            "tonic_prost",
            "tokio",
            "tokio_util",
            "tokio_stream",
            "futures_util",
            "hyper",
            "hyper_util",
            "h2",
            "rustls",
            "tokio_rustls",
            "socket2",
            "rustix",
            "arc_swap",
            "tracing",
            "metrics",
            "anyhow",
        ],
    },
    Member {
        folder: "proxy/translate",
        name: "remora_translate",
        may_name: &["remora_proto", "remora_model"],
        never: &[
            "tokio",
            "tokio_util",
            "hyper",
            "hyper_util",
            "h2",
            "tokio_rustls",
            "tonic",
            "socket2",
            "rustix",
            "anyhow",
        ],
    },
    Member {
        folder: "proxy",
        name: "remora",
        may_name: &["remora_model", "remora_translate", "remora_xds_client"],
        never: PROTOBUF,
    },
];

/// Paths that the model may not name: a decision is a function of its arguments, so time and chance are arguments.
pub(crate) const MODEL_NEVER: &[(&str, &str)] = &[
    ("std::time::Instant::now", "`now` is an argument"),
    ("std::time::SystemTime::now", "`now` is an argument"),
    ("std::net::TcpStream", "sockets belong to the shell"),
    ("std::net::TcpListener", "sockets belong to the shell"),
    ("std::net::UdpSocket", "sockets belong to the shell"),
    ("std::net::ToSocketAddrs", "resolving names is IO"),
    ("std::os::unix::net", "sockets belong to the shell"),
    ("std::fs", "files belong to the shell"),
    ("std::env", "the environment is read once, by the bootstrap"),
    ("std::thread", "threads belong to the shell"),
    ("std::process", "processes belong to the shell"),
    ("fastrand::Rng::new", "`rng` is an argument"),
    ("fastrand::Rng::default", "`rng` is an argument"),
];

/// Of `fastrand` the model may name these alone: every free function draws from a global generator.
pub(crate) const MODEL_RANDOM: &[&str] = &["fastrand::Rng"];

/// Methods that read a clock without naming it.
pub(crate) const MODEL_NEVER_METHODS: &[(&str, &str)] = &[("elapsed", "`now` is an argument")];

/// What one module of `proxy/src` may name among the others.
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) may_name: &'static [Edge],
}

/// One allowed import, with its reason.
pub(crate) struct Edge {
    pub(crate) to: &'static str,
    pub(crate) reason: &'static str,
}

const fn edge(to: &'static str, reason: &'static str) -> Edge {
    Edge { to, reason }
}

/// The modules of `proxy/src`, in the order in which a connection meets them.
pub(crate) const MODULES: &[Module] = &[
    Module {
        name: "io",
        may_name: &[],
    },
    Module {
        name: "services",
        may_name: &[],
    },
    Module {
        name: "exchange",
        may_name: &[],
    },
    Module {
        name: "response_cache",
        may_name: &[],
    },
    Module {
        name: "redirect",
        may_name: &[],
    },
    Module {
        name: "accept",
        may_name: &[
            edge("io", "an accepted socket becomes a byte stream"),
            edge("data_path", "an accepted connection begins its life there"),
            edge("worker", "the accept loop runs on a worker and spawns on it"),
        ],
    },
    Module {
        name: "sniff",
        may_name: &[edge(
            "io",
            "it reads ahead on a byte stream and gives the bytes back",
        )],
    },
    Module {
        name: "tls",
        may_name: &[edge("io", "it wraps a byte stream into another")],
    },
    Module {
        name: "http1",
        may_name: &[
            edge("io", "a byte stream below"),
            edge("exchange", "the shape of exchange above"),
        ],
    },
    Module {
        name: "http2",
        may_name: &[
            edge("io", "a byte stream below"),
            edge("exchange", "the shape of exchange above"),
            edge(
                "http1",
                "Content-Length is one grammar in both (RFC 9110 section 8.6)",
            ),
        ],
    },
    Module {
        name: "failure",
        may_name: &[edge("exchange", "a codec's error is a cause")],
    },
    Module {
        name: "observe",
        may_name: &[edge(
            "tls",
            "records and counters tell of sessions and failed handshakes",
        )],
    },
    Module {
        name: "upstream",
        may_name: &[
            edge("io", "a connection is a byte stream"),
            edge("exchange", "an upstream answers in the shape of exchange"),
            edge("http1", "pooled connections"),
            edge("http2", "pooled connections"),
            edge("tls", "client contexts"),
            edge("failure", "what goes wrong has a name"),
            edge("observe", "clusters and upstream records are counted"),
            edge("worker", "pools live on a worker, and read its pinned world"),
        ],
    },
    Module {
        name: "data_path",
        may_name: &[
            edge("accept", "the original destination of the accepted socket"),
            edge("io", "byte streams"),
            edge("exchange", "heads, bodies, trailers"),
            edge("sniff", "what does the client speak"),
            edge("tls", "server contexts and sessions"),
            edge("http1", "the server side of the codec"),
            edge("http2", "the server side of the codec"),
            edge("failure", "a failure becomes a response"),
            edge("observe", "a request fills one record"),
            edge("services", "what is asked of services, and what they answered"),
            edge("upstream", "a request takes an upstream connection"),
            edge("worker", "the pinned world, the random source, spawning"),
        ],
    },
    Module {
        name: "worker",
        may_name: &[
            edge("accept", "a worker starts its accept loops"),
            edge("upstream", "a worker owns its pools and sweeps them"),
            edge("observe", "a worker owns its counters"),
            edge("response_cache", "all workers share the answers that are kept"),
            edge(
                "tls",
                "connections end when their peers are not admitted any more",
            ),
        ],
    },
    Module {
        name: "admin",
        may_name: &[
            edge("observe", "most answers are what was counted"),
            edge("io", "HTTP/1 and HTTP/2 are told apart by the first bytes"),
        ],
    },
    Module {
        name: "control",
        may_name: &[
            edge(
                "accept",
                "listening sockets are opened before the world that needs them is published",
            ),
            edge("admin", "the control thread serves the admin port"),
            edge("io", "the control plane's own connection is a byte stream"),
            edge("tls", "contexts are prepared when the world is built"),
            edge("failure", "why the control plane cannot be reached"),
            edge("observe", "updates are counted"),
            edge(
                "upstream",
                "the control plane is reached through a cluster, by the same connect",
            ),
            edge("worker", "worlds are published to workers"),
        ],
    },
    Module {
        name: "preview",
        may_name: &[edge(
            "tls",
            "can a secret be used? The question that control asks",
        )],
    },
    Module {
        name: "bootstrap",
        may_name: &[
            edge("control", "what was said becomes what control will do"),
            edge("observe", "how to log is part of what was said"),
        ],
    },
];

/// Pairs that meet nowhere but in `remora_model`: not even the table above may allow them.
pub(crate) const NEVER_MEET: &[(&str, &str)] = &[("data_path", "control"), ("sniff", "tls")];

/// Other people's packages that only some modules of `proxy/src` may name, with the reason. `main` is `main.rs`.
/// A package that is not listed is free.
pub(crate) const PACKAGES: &[(&str, &[&str], &str)] = &[
    (
        "remora_translate",
        &["main", "bootstrap", "control", "admin", "preview", "services"],
        "configuration is read, and shown, at the edge",
    ),
    (
        "remora_xds_client",
        &["control"],
        "one place follows the control plane",
    ),
    (
        "hyper",
        &["admin"],
        "the admin port; the data path has its own codecs",
    ),
    (
        "hyper_util",
        &["admin"],
        "the admin port; the data path has its own codecs",
    ),
    (
        "http_body_util",
        &["admin"],
        "the admin port; the data path has its own bodies",
    ),
    (
        "h2",
        &["exchange", "http1", "http2", "data_path", "upstream"],
        "framing stays under the shape of exchange",
    ),
    ("httparse", &["http1", "sniff"], "under the grammar"),
    ("rustls", &["tls"], "what TLS decides is decided in one place"),
    (
        "tokio_rustls",
        &["tls", "io"],
        "what TLS decides is decided in one place; io names the stream type",
    ),
    ("webpki", &["tls"], "what TLS decides is decided in one place"),
    (
        "x509_parser",
        &["tls", "admin"],
        "handshakes read certificates, /certs shows them",
    ),
    ("arc_swap", &["worker"], "one publication"),
    (
        "hickory_resolver",
        &["control"],
        "names are resolved on the control thread",
    ),
    ("metrics", &["observe"], "every metric is defined in one place"),
    (
        "metrics_exporter_prometheus",
        &["observe"],
        "every metric is defined in one place",
    ),
    ("tracing_subscriber", &["observe"], "the log's writer"),
    (
        "clap",
        &["main", "bootstrap", "redirect", "preview"],
        "command lines",
    ),
    ("clap_complete", &["main"], "command lines"),
    (
        "anyhow",
        &["main", "bootstrap", "control"],
        "errors that end the program; all others have types",
    ),
    (
        "tikv_jemallocator",
        &["main"],
        "the allocator is the program's choice",
    ),
];

/// Paths that choose or build a runtime, and the modules that may name them.
pub(crate) const RUNTIME: &[&str] = &[
    "tokio::runtime",
    "tokio::main",
    "tokio::task::LocalSet",
    "tokio::task::block_in_place",
];
/// `worker` builds the workers' runtimes, `main` the control thread's. Everything else must not care.
pub(crate) const RUNTIME_MAY: &[&str] = &["worker", "main"];

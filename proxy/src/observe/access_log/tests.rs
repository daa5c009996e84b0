//! Lines against those that Envoy 1.40 wrote for the same exchanges (bootstrap, requests and lines of one run).

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use remora_model::log::{Comparison, ComparisonOperator, LogSink};

use super::*;
use crate::observe::test_world::{TestWorld, WORLD};
use crate::observe::{ConnectionRecord, Observe, UpstreamRecord};

/// The operators of the run, without addresses of the client (its port was chosen by the system).
const TEXT: &str = "T %PROTOCOL% %UPSTREAM_PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% \
    %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% DUR[%DURATION% %REQUEST_DURATION% \
    %REQUEST_TX_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%] rn=%ROUTE_NAME% vc=%VIRTUAL_CLUSTER_NAME% \
    uh=%UPSTREAM_HOST% uhn=%UPSTREAM_HOST_NAME% uc=%UPSTREAM_CLUSTER% ucr=%UPSTREAM_CLUSTER_RAW% \
    ula=%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% ura=%UPSTREAM_REMOTE_ADDRESS% urawp=%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
    urp=%UPSTREAM_REMOTE_PORT% utfr=%UPSTREAM_TRANSPORT_FAILURE_REASON% att=%UPSTREAM_REQUEST_ATTEMPT_COUNT% \
    utv=%UPSTREAM_TLS_VERSION% dla=%DOWNSTREAM_LOCAL_ADDRESS% dlawp=%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% \
    dlp=%DOWNSTREAM_LOCAL_PORT% dra=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
    ddra=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% sni=%REQUESTED_SERVER_NAME% pus=%DOWNSTREAM_PEER_URI_SAN% \
    tv=%DOWNSTREAM_TLS_VERSION% fcn=%FILTER_CHAIN_NAME% tid=%TRACE_ID% lrb=%LOCAL_REPLY_BODY% gsn=%GRPC_STATUS_NUMBER% \
    gs=%GRPC_STATUS% gss=%GRPC_STATUS(SNAKE_STRING)% rf=%RESPONSE_FLAGS% rfl=%RESPONSE_FLAGS_LONG% m=%REQ(:METHOD)% \
    p=%REQ(:PATH)% px=%REQ(:PATH):4% op=%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% a=%REQ(:AUTHORITY)% s=%REQ(:SCHEME)% \
    st=%RESP(:STATUS)% ua=%REQ(USER-AGENT):5% no=%REQ(NOPE)% two=%REQ(X-TWO)% tr=%TRAILER(X)% dm=%DYNAMIC_METADATA(a:b)% \
    cm=%CLUSTER_METADATA(a:b)% um=%UPSTREAM_METADATA(a:b)% fs=%FILTER_STATE(x)% enp=%ENVIRONMENT(REMORA_NOT_SET)%";

/// `GET /` through to the upstream.
const FORWARDED: &str = "T HTTP/1.1 HTTP/1.1 200 via_upstream - 0 2 DUR[1 0 0 1 0] rn=- vc=- uh=127.0.0.1:19081 \
    uhn=127.0.0.1:19081 uc=up ucr=up ula=127.0.0.1 ura=127.0.0.1:19081 urawp=127.0.0.1 urp=19081 utfr=- att=1 utv=- \
    dla=127.0.0.1:19080 dlawp=127.0.0.1 dlp=19080 dra=127.0.0.1 ddra=127.0.0.1 sni=- pus=- tv=- fcn=chain-a tid=- lrb= \
    gsn=- gs=- gss=- rf=- rfl=- m=GET p=/ px=/ op=/ a=localhost:19080 s=http st=200 ua=curl/ no=- two=1 tr=- dm=- cm=- \
    um=- fs=- enp=-";

/// `GET /direct?q=1`, answered by the route.
const DIRECT: &str = "T HTTP/1.1 - 201 direct_response - 0 5 DUR[0 0 - - -] rn=direct vc=- uh=- uhn=- uc=- ucr=- ula=- \
    ura=- urawp=- urp=- utfr=- att=0 utv=- dla=127.0.0.1:19080 dlawp=127.0.0.1 dlp=19080 dra=127.0.0.1 ddra=127.0.0.1 \
    sni=- pus=- tv=- fcn=chain-a tid=- lrb= gsn=- gs=- gss=- rf=- rfl=- m=GET p=/direct?q=1 px=/dir op=/direct?q=1 \
    a=localhost:19080 s=http st=201 ua=curl/ no=- two=- tr=- dm=- cm=- um=- fs=- enp=-";

/// `GET /nope`, whose endpoint refuses connections.
const REFUSED: &str = "T HTTP/1.1 - 503 upstream_reset_before_response_started{remote_connection_failure|\
    delayed_connect_error:_Connection_refused} - 0 98 DUR[0 0 - - -] rn=- vc=- uh=127.0.0.1:1 uhn=hn uc=dead ucr=dead \
    ula=- ura=- urawp=- urp=- utfr=delayed_connect_error:_Connection_refused att=1 utv=- dla=127.0.0.1:19080 \
    dlawp=127.0.0.1 dlp=19080 dra=127.0.0.1 ddra=127.0.0.1 sni=- pus=- tv=- fcn=chain-a tid=- lrb= gsn=- gs=- gss=- \
    rf=UF rfl=UpstreamConnectionFailure m=GET p=/nope px=/nop op=/nope a=localhost:19080 s=http st=503 ua=curl/ no=- \
    two=- tr=- dm=- cm=- um=- fs=- enp=-";

/// `POST /old/x?y=1`, rewritten, answered with `grpc-status: 4`.
const REWRITTEN: &str = "T HTTP/1.1 HTTP/1.1 200 via_upstream - 4 2 DUR[13 0 0 13 0] rn=rw vc=- uh=127.0.0.1:19081 \
    uhn=127.0.0.1:19081 uc=up ucr=up ula=127.0.0.1 ura=127.0.0.1:19081 urawp=127.0.0.1 urp=19081 utfr=- att=1 utv=- \
    dla=127.0.0.1:19080 dlawp=127.0.0.1 dlp=19080 dra=127.0.0.1 ddra=127.0.0.1 sni=- pus=- tv=- fcn=chain-a tid=- lrb= \
    gsn=4 gs=DeadlineExceeded gss=DEADLINE_EXCEEDED rf=- rfl=- m=POST p=/new/x?y=1 px=/new op=/old/x?y=1 \
    a=localhost:19080 s=http st=200 ua=curl/ no=- two=- tr=- dm=- cm=- um=- fs=- enp=-";

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn connection() -> Rc<ConnectionRecord> {
    Rc::new(ConnectionRecord {
        id: 1,
        accepted: Instant::now(),
        peer: at(34536),
        client: at(34536),
        header: None,
        local: at(19080),
        redirected: false,
        server_name: None,
        listener: Arc::from("in"),
        chain: Arc::from("chain-a"),
        tls: None,
        multiplexed: false,
        metadata: None,
    })
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    pairs.iter().map(pair).for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}

fn request(method: Method, path: &'static str) -> ExchangeRecord {
    let mut record = ExchangeRecord::new(connection(), Instant::now());
    record.version = Some(Version::HTTP_11);
    record.method = method;
    record.path = Some(PathAndQuery::from_static(path));
    record.authority = Some(Authority::from_static("localhost:19080"));
    record.request_headers = Some(headers(&[("user-agent", "curl/7.88.1")]));
    record.request_received = Some(Duration::ZERO);
    record.ended = Some(Duration::ZERO);
    record
}

fn reached(record: &mut ExchangeRecord, world: &TestWorld, millis: u64) {
    record.cluster = Some(world.cluster("up").config.clone());
    let endpoint = Arc::clone(&world.cluster("up").endpoints.endpoints[0]);
    record.upstream = Some(UpstreamRecord {
        local: Some(at(36552)),
        endpoint,
        tls: None,
        reused: false,
    });
    record.attempts = 1;
    record.status = Some(200);
    record.details = "via_upstream".into();
    record.sent = 2;
    record.response_started = Some(Duration::from_millis(millis));
    record.ended = Some(Duration::from_millis(millis));
}

fn forwarded(world: &TestWorld) -> ExchangeRecord {
    let mut record = request(Method::GET, "/");
    record.request_headers = Some(headers(&[
        ("user-agent", "curl/7.88.1"),
        ("x-esc", "a\"b\\c"),
        ("x-two", "1"),
        ("x-two", "2"),
    ]));
    reached(&mut record, world, 1);
    record.response_headers = Some(headers(&[("content-length", "2")]));
    record
}

fn direct(world: &TestWorld) -> ExchangeRecord {
    let mut record = request(Method::GET, "/direct?q=1");
    record.route = Some(world.route("direct"));
    record.status = Some(201);
    record.details = "direct_response".into();
    record.sent = 5;
    record
}

fn refused(world: &TestWorld) -> ExchangeRecord {
    let mut record = request(Method::GET, "/nope");
    record.cluster = Some(world.cluster("dead").config.clone());
    let endpoint = Arc::clone(&world.cluster("dead").endpoints.endpoints[0]);
    record.upstream = Some(UpstreamRecord {
        local: None,
        endpoint,
        tls: None,
        reused: false,
    });
    record.attempts = 1;
    record.status = Some(503);
    record.flags.push("UF");
    record.details =
        "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"
            .into();
    record.transport_failure = Some("delayed connect error: Connection refused".into());
    record.sent = 98;
    record
}

fn rewritten(world: &TestWorld) -> ExchangeRecord {
    let mut record = request(Method::POST, "/old/x?y=1");
    record.request_headers = Some(headers(&[
        ("user-agent", "curl/7.88.1"),
        ("x-envoy-original-path", "/old/x?y=1"),
    ]));
    reached(&mut record, world, 13);
    record.route = Some(world.route("rw"));
    record.sent_path = Some(PathAndQuery::from_static("/new/x?y=1"));
    record.received = 4;
    record.grpc_status = Some(4);
    record
}

fn text(format: &str, omit_empty: bool, record: &ExchangeRecord) -> String {
    let format = Format::Text {
        pieces: parse_format(format).unwrap(),
        omit_empty,
    };
    let mut line = String::new();
    render(&format, &Values::of(record), &mut line);
    line
}

#[test]
fn text_lines_read_as_envoys() {
    let world = TestWorld::of(WORLD);
    for (record, envoy) in [
        (forwarded(&world), FORWARDED),
        (direct(&world), DIRECT),
        (refused(&world), REFUSED),
        (rewritten(&world), REWRITTEN),
    ] {
        assert_eq!(text(TEXT, false, &record), envoy);
    }
}

#[test]
fn empty_values_are_omitted_as_envoy_omits_them() {
    let format = "[%REQ(NOPE)%][%UPSTREAM_HOST%][%RESPONSE_FLAGS%][%ROUTE_NAME%][%GRPC_STATUS%][%UPSTREAM_CLUSTER%]\
        [%UPSTREAM_PROTOCOL%][%RESPONSE_DURATION%][%ENVIRONMENT(REMORA_NOT_SET)%][%REQUESTED_SERVER_NAME%]";
    let world = TestWorld::of(WORLD);
    for (record, envoy) in [
        (
            forwarded(&world),
            "[][127.0.0.1:19081][-][][][up][HTTP/1.1][1][-][]",
        ),
        (direct(&world), "[][][-][direct][][][][][-][]"),
        (refused(&world), "[][127.0.0.1:1][UF][][][dead][][][-][]"),
        (
            rewritten(&world),
            "[][127.0.0.1:19081][-][rw][DeadlineExceeded][up][HTTP/1.1][13][-][]",
        ),
    ] {
        assert_eq!(text(format, true, &record), envoy);
    }
}

/// A JSON format as it stands in a configuration, keys in sorted order.
fn node(value: &serde_json::Value) -> JsonNode {
    match value {
        serde_json::Value::Object(members) => JsonNode::Object(
            members
                .iter()
                .map(|(key, value)| (key.as_str().into(), node(value)))
                .collect(),
        ),
        serde_json::Value::Array(elements) => JsonNode::List(elements.iter().map(node).collect()),
        serde_json::Value::String(text) => JsonNode::Text(parse_format(text).unwrap()),
        constant => JsonNode::Constant(constant.to_string().into()),
    }
}

fn json(format: &serde_json::Value, omit_empty: bool, record: &ExchangeRecord) -> String {
    let mut line = String::new();
    render(
        &Format::Json {
            root: Arc::new(node(format)),
            omit_empty,
        },
        &Values::of(record),
        &mut line,
    );
    line
}

#[test]
fn json_lines_read_as_envoys() {
    let format = serde_json::json!({
        "code": "%RESPONSE_CODE%", "mix": "c=%RESPONSE_CODE%", "sent": "%BYTES_SENT%", "rd": "%REQUEST_DURATION%",
        "respd": "%RESPONSE_DURATION%", "none": "%REQ(NOPE)%", "lit": "abc", "num": 5, "bool": true, "nul": null,
        "port": "%DOWNSTREAM_LOCAL_PORT%", "urp": "%UPSTREAM_REMOTE_PORT%", "cid": "%CONNECTION_ID%",
        "att": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "gs": "%GRPC_STATUS%", "gsn": "%GRPC_STATUS_NUMBER%",
        "gsn2": "%GRPC_STATUS(NUMBER)%", "list": ["a", "%RESPONSE_CODE%", 3, "%REQ(NOPE)%", {"x": "%REQ(NOPE)%"}],
        "nest": {"b": "%REQ(:METHOD)%", "a": "%REQ(:PATH)%"}, "flags": "%RESPONSE_FLAGS%",
        "emptyroute": "%ROUTE_NAME%", "host": "%UPSTREAM_HOST%", "dm": "%DYNAMIC_METADATA(a:b)%",
        "esc": "%REQ(X-ESC)%", "mix2": "%REQ(NOPE)%%REQ(NOPE)%", "mix3": "-%REQ(NOPE)%", "stt": "%RESP(:STATUS)%",
        "clen": "%RESP(CONTENT-LENGTH)%", "dur": "%DURATION%", "uc": "%UPSTREAM_CLUSTER%", "empty": "",
        "utls": "%UPSTREAM_TLS_VERSION%", "tls": "%DOWNSTREAM_TLS_VERSION%", "lrb": "%LOCAL_REPLY_BODY%",
        "reqtx": "%REQUEST_TX_DURATION%", "resptx": "%RESPONSE_TX_DURATION%", "ulp": "%UPSTREAM_LOCAL_PORT%",
        "drp": "%DOWNSTREAM_REMOTE_PORT%", "cut": "%REQ(:PATH):3%",
    });
    let world = TestWorld::of(WORLD);
    let envoy = concat!(
        r#"{"att":1,"bool":true,"cid":1,"clen":"2","code":200,"cut":"/","dm":null,"drp":34536,"dur":1,"empty":"","#,
        r#""emptyroute":null,"esc":"a\"b\\c","flags":"-","gs":null,"gsn":null,"gsn2":null,"host":"127.0.0.1:19081","#,
        r#""list":["a",200,3,null,{"x":null}],"lit":"abc","lrb":"","mix":"c=200","mix2":"--","mix3":"--","#,
        r#""nest":{"a":"/","b":"GET"},"none":null,"nul":null,"num":5,"port":19080,"rd":0,"reqtx":0,"respd":1,"#,
        r#""resptx":0,"sent":2,"stt":"200","tls":null,"uc":"up","ulp":36552,"urp":19081,"utls":null}"#,
        "\n"
    );
    assert_eq!(json(&format, false, &forwarded(&world)), envoy);
    let envoy = concat!(
        r#"{"att":0,"bool":true,"cid":1,"clen":null,"code":201,"cut":"/di","dm":null,"drp":34536,"dur":0,"empty":"","#,
        r#""emptyroute":"direct","esc":null,"flags":"-","gs":null,"gsn":null,"gsn2":null,"host":null,"#,
        r#""list":["a",201,3,null,{"x":null}],"lit":"abc","lrb":"","mix":"c=201","mix2":"--","mix3":"--","#,
        r#""nest":{"a":"/direct?q=1","b":"GET"},"none":null,"nul":null,"num":5,"port":19080,"rd":0,"reqtx":null,"#,
        r#""respd":null,"resptx":null,"sent":5,"stt":"201","tls":null,"uc":null,"ulp":null,"urp":null,"utls":null}"#,
        "\n"
    );
    assert_eq!(json(&format, false, &direct(&world)), envoy);
}

#[test]
fn json_without_empty_values_reads_as_envoys() {
    let format = serde_json::json!({
        "code": "%RESPONSE_CODE%", "mix": "c=%REQ(NOPE)%", "none": "%REQ(NOPE)%", "nul": null,
        "respd": "%RESPONSE_DURATION%", "list": ["%REQ(NOPE)%", "x", null], "nest": {"a": "%REQ(NOPE)%"},
        "nest2": {"a": "%REQ(NOPE)%", "b": {"c": "%REQ(NOPE)%"}}, "l2": ["%REQ(NOPE)%"],
        "urp": "%UPSTREAM_REMOTE_PORT%", "att": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "flags": "%RESPONSE_FLAGS%",
        "empty": "",
    });
    let world = TestWorld::of(WORLD);
    for (record, envoy) in [
        (
            forwarded(&world),
            r#"{"att":1,"code":200,"empty":"","flags":"-","l2":[],"list":["x"],"mix":"c=","respd":1,"urp":19081}"#,
        ),
        (
            direct(&world),
            r#"{"att":0,"code":201,"empty":"","flags":"-","l2":[],"list":["x"],"mix":"c="}"#,
        ),
        (
            refused(&world),
            r#"{"att":1,"code":503,"empty":"","flags":"UF","l2":[],"list":["x"],"mix":"c="}"#,
        ),
    ] {
        assert_eq!(json(&format, true, &record), format!("{envoy}\n"));
    }
}

#[test]
fn a_tunnel_has_no_request_but_bytes() {
    let world = TestWorld::of(WORLD);
    let mut record = ExchangeRecord::new(connection(), Instant::now());
    record.cluster = Some(world.cluster("up").config.clone());
    (record.received, record.sent, record.attempts) = (79, 113, 1);
    record.ended = Some(Duration::from_millis(36));
    let format = "[%PROTOCOL%][%RESPONSE_CODE%][%REQ(:METHOD)%][%RESPONSE_FLAGS%][%BYTES_SENT%][%BYTES_RECEIVED%]\
        [%DURATION%][%REQUEST_DURATION%][%RESPONSE_DURATION%][%RESPONSE_CODE_DETAILS%][%UPSTREAM_CLUSTER%]\
        [%DOWNSTREAM_WIRE_BYTES_RECEIVED%]";
    assert_eq!(
        text(format, false, &record),
        "[-][0][-][-][113][79][36][-][-][-][up][79]"
    );
}

#[test]
fn the_default_format_prints_envoys_line_but_for_the_time() {
    let world = TestWorld::of(WORLD);
    let mut record = rewritten(&world);
    if let Some(headers) = &mut record.request_headers {
        headers.insert(
            "x-request-id",
            HeaderValue::from_static("4d6773b7-6310-4ef2-9b29-a65c88f857ef"),
        );
    }
    record.response_headers = Some(headers(&[("x-envoy-upstream-service-time", "13")]));
    let mut line = String::new();
    render(&default_format().unwrap(), &Values::of(&record), &mut line);
    let (time, rest) = line.split_once("] ").unwrap();
    assert_eq!(time.len(), "[2026-11-20T09:32:26.761Z".len(), "{time}");
    assert_eq!(
        rest,
        "\"POST /old/x?y=1 HTTP/1.1\" 200 - 4 2 13 13 \"-\" \"curl/7.88.1\" \"4d6773b7-6310-4ef2-9b29-a65c88f857ef\" \
         \"localhost:19080\" \"127.0.0.1:19081\"\n"
    );
}

#[test]
fn a_value_is_cut_at_a_whole_character() {
    let mut line = String::new();
    assert!(Value::Text("aé".into()).write(Some(2), &mut line));
    assert_eq!(line, "a");
}

#[test]
fn filters_decide_by_status_duration_and_flags() {
    let world = TestWorld::of(WORLD);
    let (good, bad) = (forwarded(&world), refused(&world));
    let failed = LogFilter::Status(Comparison {
        operator: ComparisonOperator::AtLeast,
        value: 500,
    });
    let slow = LogFilter::Duration(Comparison {
        operator: ComparisonOperator::AtLeast,
        value: 1,
    });
    for (filter, expected) in [
        (&failed, (false, true)),
        (&slow, (true, false)),
        (&LogFilter::Flags(vec![]), (false, true)),
        (&LogFilter::Flags(vec!["UH".into()]), (false, false)),
        (&LogFilter::Flags(vec!["UF".into()]), (false, true)),
        (&LogFilter::NotHealthCheck, (true, true)),
    ] {
        let decided = (
            accepts(filter, &Values::of(&good)),
            accepts(filter, &Values::of(&bad)),
        );
        assert_eq!(decided, expected, "{filter:?}");
    }
    let both = LogFilter::And(vec![failed, slow]);
    assert!(!accepts(&both, &Values::of(&bad)));
}

#[test]
fn only_what_its_filter_accepts_reaches_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let world = TestWorld::of(WORLD);
    let observe = Observe::default();
    let log = AccessLog {
        sink: LogSink::File(Arc::from(path.to_str().unwrap())),
        format: Arc::new(Format::Text {
            pieces: parse_format("%REQ(:PATH)%\n").unwrap(),
            omit_empty: false,
        }),
        filter: Some(Arc::new(LogFilter::Flags(vec![]))),
    };
    observe.sinks.open(&log.sink).unwrap();
    observe.log(std::slice::from_ref(&log), &forwarded(&world));
    observe.log(std::slice::from_ref(&log), &refused(&world));
    assert!(observe.flush_logs(Duration::from_secs(10)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "/nope\n");
}

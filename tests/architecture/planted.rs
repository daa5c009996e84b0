//! The rules are red on planted violations, and quiet on what only looks like one.

use anyhow::{Context, Result};

use crate::mentions::{self, Mentions};
use crate::table::{MEMBERS, Member};
use crate::{documents, length, rules};

fn planted(module: &str, text: &str) -> Result<Mentions> {
    let module: Vec<String> = module
        .split("::")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    mentions::of_text(text, &module, false)
}

fn member(folder: &str) -> Result<&'static Member> {
    MEMBERS
        .iter()
        .find(|member| member.folder == folder)
        .context("no such member")
}

/// Every way to name `control` from `data_path`.
const MEETINGS: &[&str] = &[
    "use crate::control;",
    "use crate::control::Options;",
    "use crate::{io::Io, control::{run, Options as O}};",
    "use super::super::control::run;",
    "use crate::control as elsewhere;",
    "pub use crate::control::*;",
    "use crate::*;",
    "fn f() { crate::control::run() }",
    "fn f(_: &crate::control::Options) {}",
    "fn f() -> impl Fn(crate::control::Options) { |_| () }",
    "fn f() { let x = <crate::control::Options>::default(); }",
    "fn f() { match x { crate::control::Mode::Serve => {} } }",
    "fn f() { println!(\"{}\", crate::control::VERSION); }",
    "macro_rules! m { () => { use $crate::{io::Io, control::run}; } }",
    "fn f() { tokio::select! { _ = crate::control::run() => {} } }",
    "struct S<T = crate::control::Options>(T);",
    "impl crate::control::Serve for S {}",
    "#[derive(crate::control::Derive)] struct S;",
    "#[cfg(not(test))] use crate::control::run;",
    "mod inner { use super::super::super::control::run; }",
    "fn f() { use crate::control::run; run() }",
];

#[test]
fn every_way_to_name_a_forbidden_module_is_found() -> Result<()> {
    for text in MEETINGS {
        let wrong = rules::modules("data_path", &planted("data_path::http", text)?);
        assert!(!wrong.is_empty(), "not found: {text}");
    }
    Ok(())
}

#[test]
fn what_only_looks_like_a_forbidden_module_is_not() -> Result<()> {
    for text in [
        "//! Not [`crate::control`].\n/// Nor [`crate::control::run`].\nfn f() {}",
        "fn f() { let control = 1; control::<u8>() }",
        "fn f() { g(\"crate::control\") }",
        "use super::control;",
        "use crate::data_path::control::X;",
        "#[cfg(test)] mod tests { use crate::control::run; }",
        "#[cfg(test)] use crate::control::run;",
        "#[test] fn f() { crate::control::run() }",
        "use other::control; fn f() { control::run() }",
    ] {
        let wrong = rules::modules("data_path", &planted("data_path::http", text)?);
        assert!(wrong.is_empty(), "{text}: {wrong:?}");
    }
    Ok(())
}

#[test]
fn a_sentence_tells_the_line_and_both_modules() -> Result<()> {
    let wrong = rules::modules(
        "data_path",
        &planted("data_path", "use crate::io::Io;\n\nuse crate::control::run;")?,
    );
    assert_eq!(
        wrong,
        ["line 3: crate::control::run: data_path may not name control (tests/architecture/table.rs)"]
    );
    Ok(())
}

#[test]
fn a_module_without_a_line_in_the_table_is_refused() -> Result<()> {
    assert!(!rules::modules("utils", &planted("utils", "")?).is_empty());
    assert!(!rules::modules("data_path", &planted("data_path", "use crate::utils::x;")?).is_empty());
    Ok(())
}

#[test]
fn the_model_may_not_read_clocks_or_draw_chances_of_its_own() -> Result<()> {
    for text in [
        "fn f() { std::time::Instant::now(); }",
        "use std::time::Instant; fn f() { Instant::now(); }",
        "use std::time::{Instant as Moment}; fn f() { Moment::now(); }",
        "use std::time; fn f() { time::SystemTime::now(); }",
        "type Moment = std::time::Instant; fn f() { Moment::now(); }",
        "fn f() { <std::time::Instant>::now(); }",
        "use std::time::Instant; fn f() { x.unwrap_or_else(Instant::now); }",
        "use std::time::Instant; fn f() { assert!(Instant::now() > x); }",
        "fn f(since: std::time::Instant) { since.elapsed(); }",
        "use std::time::*;",
        "use std::net::TcpStream;",
        "use std::net::{IpAddr, UdpSocket};",
        "use std::fs::File;",
        "fn f() { fastrand::u32(..); }",
        "use fastrand::u32;",
        "use fastrand::Rng; fn f() { Rng::new(); }",
        "fn f() { fastrand::Rng::default(); }",
    ] {
        assert!(
            !rules::model(&planted("route", text)?).is_empty(),
            "not found: {text}"
        );
    }
    Ok(())
}

#[test]
fn the_model_may_be_told_the_time_and_the_chances() -> Result<()> {
    for text in [
        "use std::time::{Duration, Instant}; fn f(now: Instant, rng: &mut fastrand::Rng) { now + Duration::ZERO; }",
        "use std::net::{IpAddr, SocketAddr};",
        "#[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }",
        "fn f() { fastrand::Rng::with_seed(1); }",
    ] {
        let wrong = rules::model(&planted("route", text)?);
        assert!(wrong.is_empty(), "{text}: {wrong:?}");
    }
    Ok(())
}

#[test]
fn members_see_only_their_side_of_the_edge() -> Result<()> {
    for (folder, text) in [
        ("proxy", "use remora_proto::pb;"),
        ("proxy", "use envoy_types::pb;"),
        ("proxy", "fn f() { ::prost::Message::encode() }"),
        ("proxy", "extern crate prost as p;"),
        ("proxy/model", "use remora_translate::load;"),
        ("proxy/model", "use remora_proto::Pool;"),
        ("proxy/model", "use tokio::time::Instant;"),
        ("proxy/model", "fn f() { tokio::select! {} }"),
        ("proxy/translate", "use remora::control;"),
        ("proxy/translate", "use remora_xds_client::Session;"),
        ("proto", "use remora_model::Snapshot;"),
        ("xds-client", "use remora_proto::Pool;"),
    ] {
        let found = rules::member(member(folder)?, MEMBERS, &planted("", text)?);
        assert!(!found.is_empty(), "{folder}: not found: {text}");
    }
    let fine = planted("", "use remora_model::Snapshot; use remora_proto::Pool;")?;
    assert!(rules::member(member("proxy/translate")?, MEMBERS, &fine).is_empty());
    Ok(())
}

#[test]
fn a_runtime_is_found_by_any_name() -> Result<()> {
    for text in [
        "fn f() { tokio::runtime::Builder::new_current_thread(); }",
        "use tokio::runtime; fn f() { runtime::Runtime::new(); }",
        "use tokio::{net::TcpStream, runtime::{Builder, LocalRuntime}};",
        "use tokio as t; fn f() { t::runtime::Runtime::new(); }",
        "#[tokio::main] async fn main() {}",
        "use tokio::*;",
    ] {
        assert!(
            !rules::runtime("control", &planted("control", text)?).is_empty(),
            "not found: {text}"
        );
        assert!(rules::runtime("worker", &planted("worker", text)?).is_empty());
    }
    assert!(rules::runtime("control", &planted("control", "use tokio::task::spawn_local;")?).is_empty());
    Ok(())
}

#[test]
fn a_package_is_told_from_a_module_of_its_name() -> Result<()> {
    let package = planted("data_path", "use metrics::counter;")?;
    assert!(!rules::packages("data_path", &package).is_empty());
    for (module, text) in [
        ("observe", "mod metrics; fn f() { metrics::class_of(); }"),
        (
            "data_path",
            "use crate::observe::metrics; fn f() { metrics::class_of(); }",
        ),
        ("data_path", "use crate::observe::metrics::class_of;"),
        ("data_path", "fn f(metrics: &Metrics) { metrics.count(); }"),
    ] {
        let wrong = rules::packages("data_path", &planted(module, text)?);
        assert!(wrong.is_empty(), "{text}: {wrong:?}");
    }
    Ok(())
}

#[test]
fn comments_blank_lines_and_inline_tests_do_not_count() -> Result<()> {
    let text = "//! Module.\n\n/// Item.\n/* a\n b */\n#[inline]\nfn f() {\n    // why\n    g(\"two\n lines\");\n\n}\n\
                #[cfg(test)]\nmod tests {\n    fn t() {\n        u();\n    }\n}\n";
    let lengths = length::of_text(text)?;
    assert_eq!(lengths.file, 5, "#[inline], fn, the call's two lines, the brace");
    let functions: Vec<_> = lengths
        .functions
        .iter()
        .map(|found| (found.name.as_str(), found.line, found.lines))
        .collect();
    assert_eq!(functions, [("f", 7, 2), ("t", 15, 1)]);
    Ok(())
}

#[test]
fn a_file_and_a_function_that_are_too_long_are_measured_as_such() -> Result<()> {
    let body = "    g();\n".repeat(length::FUNCTION + 1);
    let lengths = length::of_text(&format!("impl S {{\n    async fn f() {{\n{body}    }}\n}}\n"))?;
    assert_eq!(lengths.functions[0].lines, length::FUNCTION + 1);
    let lengths = length::of_text(&"const A: u8 = 1;\n".repeat(length::FILE + 1))?;
    assert_eq!(lengths.file, length::FILE + 1);
    Ok(())
}

#[test]
fn a_map_is_held_to_the_tree_both_ways() {
    let readme =
        "text\n```text map\nproxy/        the proxy\n  src/        shell\n    io/ tls/  more\ntests/\n```\n";
    let paths = documents::map(readme);
    assert_eq!(
        paths,
        ["proxy", "proxy/src", "proxy/src/io", "proxy/src/tls", "tests"]
    );
    let top = std::path::Path::new("/nowhere");
    let whole = [("proxy", ["src".to_owned(), "model".to_owned()].into())];
    let wrong = documents::map_against_tree(&paths, top, &whole);
    assert_eq!(
        wrong.len(),
        6,
        "five entries are not there, one folder is left out: {wrong:?}"
    );
    assert!(wrong[5].contains("proxy/model"));
    assert!(!documents::map_against_tree(&[], top, &[]).is_empty());
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[workspace.dependencies]\nremora = { path = \"proxy\" }\n# --- group\nold = \"1\"\n\
                    known = { version = \"1\" } # why it is here\n# said above\nabove = \"2\"\n[profile.dev]\nx = 1\n";
    assert_eq!(documents::without_reason(manifest), ["old: no reason beside it"]);
}

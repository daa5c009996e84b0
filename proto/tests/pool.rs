//! A pool costs memory only while somebody holds it. Alone in its file, because it measures the process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it measures and skips"
)]

use std::fs;
use std::io::Write as _;
use std::time::Instant;

use remora_proto::{Pool, TypeUrl};

/// Anonymous memory of this process in kilobytes, where the system says it.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| {
        line.strip_prefix("RssAnon:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    })
}

#[test]
fn a_dropped_pool_leaves_its_memory_to_the_next() {
    let start = Instant::now();
    let pool = Pool::load().unwrap();
    let (took, one) = (start.elapsed(), resident());
    eprintln!("one pool: loaded in {took:?}, {one:?} kB resident");
    drop(pool);
    for _ in 0..5 {
        assert!(Pool::load().unwrap().knows(TypeUrl::CLUSTER.as_str()));
    }
    let (Some(one), Some(after)) = (one, resident()) else {
        let said = b"SKIPPED: memory of a dropped pool: the system does not say how much is resident\n";
        std::io::stderr().write_all(said).unwrap();
        return;
    };
    assert!(
        after < 2 * one,
        "{one} kB with one pool, {after} kB after six, all dropped"
    );
}

//! `remora fields`: the table of every field.

use anyhow::{Context, Result, ensure};

use crate::Files;

#[test]
fn the_table_is_narrowed_by_type_and_tier() -> Result<()> {
    let files = Files::new()?;
    let said = files.run(&["fields", "--type", "cluster.v3.Cluster", "--tier", "ignored"])?;
    ensure!(said.code == 0, "exit code {}: {}", said.code, said.error);
    ensure!(
        said.text
            .contains("ignored   envoy.config.cluster.v3.Cluster.track_cluster_stats: observability"),
        "{}",
        said.text
    );
    ensure!(
        said.text.lines().all(|line| line.starts_with("ignored ")),
        "{}",
        said.text
    );
    Ok(())
}

#[test]
fn programs_get_every_field_with_its_reason() -> Result<()> {
    let files = Files::new()?;
    let table = files.run(&["fields", "--output", "json"])?.json()?;
    let rows = table.as_array().context("a list")?;
    ensure!(rows.len() > 500, "only {} fields", rows.len());
    for row in rows {
        let needs = row["tier"] != "honoured";
        ensure!(
            !needs || row["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
            "no reason: {row}"
        );
    }
    Ok(())
}

#[test]
fn a_field_that_nothing_reads_is_named_by_check() -> Result<()> {
    let files = Files::new()?;
    files.put(
        "rds.yaml",
        "name: all
virtual_hosts:
- name: a
  domains: ['*']
  routes:
  - match: {prefix: /, runtime_fraction: {default_value: {numerator: 50}, runtime_key: shift}}
    direct_response: {status: 200}
",
    )?;
    let said = files.run(&["check", "rds.yaml"])?;
    let sentence =
        "IGNORED envoy.config.core.v3.RuntimeFractionalPercent.runtime_key: there is no runtime layer";
    ensure!(said.code == 0 && said.text.contains(sentence), "{}", said.text);
    ensure!(said.text.contains("rds.yaml:6:88: RouteConfiguration 'all': virtual_hosts[0].routes[0].match.runtime_fraction.runtime_key = \"shift\""), "{}", said.text);
    Ok(())
}

//! What health checks do to endpoints that come, go and return, beside Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use harness::bootstrap::{load_assignment, merge, type_url};
use harness::process::Proxy;
use serde_json::{Value, json};

use super::checks::{check, until};
use super::patient::{Answer, Patient};
use super::stage::{Stage, with_envoy};

/// A file with the endpoints of the cluster.
struct Members(tempfile::TempDir);

impl Members {
    fn new(members: &[SocketAddr]) -> Result<Self> {
        let this = Self(tempfile::tempdir()?);
        this.put(members)?;
        Ok(this)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("eds.json")
    }

    /// Replaces the file by one rename.
    fn put(&self, members: &[SocketAddr]) -> Result<()> {
        let mut assignment = load_assignment("watched", members);
        assignment["@type"] = json!(type_url("config.endpoint.v3.ClusterLoadAssignment"));
        let staged = self.0.path().join("new");
        std::fs::write(&staged, json!({"resources": [assignment]}).to_string())?;
        Ok(std::fs::rename(staged, self.path())?)
    }

    async fn stage(&self, proxy: Proxy, over: &Value) -> Result<Stage> {
        let mut cluster = json!({"type": "EDS", "load_assignment": null, "eds_cluster_config": {"eds_config":
            {"resource_api_version": "V3", "path_config_source": {"path": self.path()}}}});
        merge(&mut cluster, over);
        Stage::start(proxy, &[], &cluster).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_taken_away_stays_as_long_as_it_passes() -> Result<()> {
    for proxy in with_envoy("checks: taken away")? {
        let [stays, goes] = [Patient::well().await?, Patient::well().await?];
        let members = Members::new(&[stays.address(), goes.address()])?;
        let stage = members.stage(proxy, &check(&json!({}))).await?;
        members.put(&[stays.address()])?;
        stage
            .wait_flags(goes.address(), "/pending_dynamic_removal")
            .await?;
        let before = goes.requests();
        ensure!(stage.statuses(10).await? == [200; 10]);
        ensure!(goes.requests() > before, "{proxy:?}: it is used all the same");
        // Named again, it is as before.
        members.put(&[stays.address(), goes.address()])?;
        stage.wait_flags(goes.address(), "healthy").await?;
        members.put(&[stays.address()])?;
        stage
            .wait_flags(goes.address(), "/pending_dynamic_removal")
            .await?;
        goes.answers(Answer::http(503, "", ""));
        stage.wait_flags(goes.address(), "nothing").await?;
        ensure!(stage.flags(stays.address()).await? == "healthy");
        // Nobody asks it any more.
        goes.answers(Answer::http(200, "", ""));
        stays.answers(Answer::http(200, "", ""));
        until("others are asked", || stays.checks().len() > 4).await?;
        ensure!(goes.checks().len() <= 1, "{proxy:?}: {}", goes.checks().len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_at_once_where_the_cluster_says_so() -> Result<()> {
    for proxy in with_envoy("checks: goes at once")? {
        let [stays, goes] = [Patient::well().await?, Patient::well().await?];
        let members = Members::new(&[stays.address(), goes.address()])?;
        let mut cluster = check(&json!({}));
        cluster["ignore_health_on_host_removal"] = json!(true);
        let stage = members.stage(proxy, &cluster).await?;
        members.put(&[stays.address()])?;
        stage.wait_flags(goes.address(), "nothing").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_found_outlives_an_update() -> Result<()> {
    for proxy in with_envoy("checks: updates")? {
        let slow = json!({"interval": "300s", "no_traffic_interval": "300s"});
        let [well, ill, new] = [
            Patient::well().await?,
            Patient::start(Answer::http(503, "", "")).await?,
            Patient::well().await?,
        ];
        let members = Members::new(&[well.address(), ill.address()])?;
        let stage = members.stage(proxy, &check(&slow)).await?;
        members.put(&[well.address(), new.address(), ill.address()])?;
        // The first check of the new one decides, and nobody else is asked again.
        stage.wait_flags(new.address(), "healthy").await?;
        ensure!(stage.flags(well.address()).await? == "healthy");
        ensure!(stage.flags(ill.address()).await? == "/failed_active_hc");
        let asked = [&well, &ill, &new].map(|patient| patient.checks().len());
        ensure!(asked == [1; 3], "{proxy:?}: {asked:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_endpoint_waits_for_its_first_check_and_may_not_count_until_then() -> Result<()> {
    for proxy in with_envoy("checks: new endpoints")? {
        for (ignore, flags, excluded) in [
            (false, "/failed_active_hc", 0),
            (true, "/failed_active_hc/pending_active_hc", 2),
        ] {
            let well = Patient::well().await?;
            let silent = [
                Patient::start(Answer::Silence).await?,
                Patient::start(Answer::Silence).await?,
            ];
            let members = Members::new(&[well.address()])?;
            let mut cluster = check(&json!({}));
            cluster["common_lb_config"] = json!({"ignore_new_hosts_until_first_hc": ignore});
            let stage = members.stage(proxy, &cluster).await?;
            members.put(&[well.address(), silent[0].address(), silent[1].address()])?;
            stage.wait_flags(silent[1].address(), flags).await?;
            stage.wait_stat("membership_excluded", excluded).await?;
            stage.statuses(30).await?;
            // A third that is well is too few, unless the others do not count.
            let used = silent[0].requests() + silent[1].requests();
            ensure!((used > 0) != ignore, "{proxy:?}: {ignore}: {used}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_passes_ends_an_ejection() -> Result<()> {
    for proxy in with_envoy("checks: ejections")? {
        for returns in [true, false] {
            let patients = [Patient::well().await?, Patient::well().await?];
            let failing = super::stage::answering("fails requests", 503).await?;
            let mut cluster = check(&json!({}));
            cluster["outlier_detection"] = json!({"consecutive_5xx": 1, "interval": "300s",
                "base_ejection_time": "300s", "max_ejection_percent": 50,
                "successful_active_health_check_uneject_host": returns});
            cluster["health_checks"][0]["http_health_check"]["expected_statuses"] =
                json!([{"start": 200, "end": 600}]);
            let all = [patients[0].address(), failing.address(), patients[1].address()];
            let stage = Stage::start(proxy, &all, &cluster).await?;
            stage.statuses(3).await?;
            stage
                .wait_stat("outlier_detection.ejections_enforced_total", 1)
                .await?;
            if returns {
                stage.wait_flags(failing.address(), "healthy").await?;
            } else {
                patients[0].answers(Answer::http(200, "", ""));
                until("several checks", || patients[0].checks().len() > 3).await?;
                ensure!(
                    stage.flags(failing.address()).await? == "/failed_outlier_check",
                    "{proxy:?}"
                );
            }
        }
    }
    Ok(())
}

//! What health checks do to endpoints that come, go and return, beside Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use harness::bootstrap::{
    cluster, fixed, http_connection_manager, listener, load_assignment, merge, route_everything, tcp_proxy,
    type_url,
};
use harness::client::RawClient;
use harness::process::{Options, Port, Proxy, ProxyProcess};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_ends_with_its_endpoint_where_the_cluster_says_so() -> Result<()> {
    for proxy in with_envoy("checks: tunnels")? {
        for closes in [true, false] {
            let patient = Patient::well().await?;
            let mut cluster = check(&json!({}));
            cluster["close_connections_on_host_health_failure"] = json!(closes);
            let stage = Stage::before(proxy, &[patient.address()], &cluster, tcp_proxy("watched"), 1).await?;
            let mut client = stage.connect().await?;
            let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
            ensure!(client.exchange(request).await?.status() == 200);
            patient.answers(Answer::http(503, "", ""));
            stage.wait_flags(patient.address(), "/failed_active_hc").await?;
            if closes {
                let end = tokio::time::timeout(super::stage::WITHIN, client.read_response("GET")).await?;
                ensure!(!matches!(end, Ok(Some(_))), "{proxy:?}: {end:?}");
            } else {
                ensure!(client.exchange(request).await?.status() == 200, "{proxy:?}");
            }
        }
    }
    Ok(())
}

/// A proxy that follows a file with the cluster.
async fn following(proxy: Proxy, path: &std::path::Path) -> Result<(ProxyProcess, Port)> {
    let (admin, port) = (Port::reserve()?, Port::reserve()?);
    let mut routes = route_everything("routes", "watched");
    routes["validate_clusters"] = json!(false);
    let manager = http_connection_manager(&json!({"route_config": routes}));
    let mut bootstrap = fixed(
        admin.address(),
        vec![listener("in", port.address(), manager)],
        Vec::new(),
    );
    bootstrap["dynamic_resources"] = json!({"cds_config":
        {"resource_api_version": "V3", "path_config_source": {"path": path}}});
    let text = bootstrap.to_string();
    let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
    Ok((process, port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_cluster_takes_over_after_its_first_round() -> Result<()> {
    for proxy in with_envoy("checks: a changed cluster")? {
        let [old, new] = [Patient::well().await?, Patient::start(Answer::Silence).await?];
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cds.json");
        let put = |to: &Patient| -> Result<()> {
            let mut cluster = cluster("watched", &[to.address()]);
            let once = json!({"timeout": "2s", "interval": "300s", "no_traffic_interval": "300s"});
            merge(&mut cluster, &check(&once));
            cluster["@type"] = json!(type_url("config.cluster.v3.Cluster"));
            let staged = folder.path().join("new");
            std::fs::write(&staged, json!({"resources": [cluster]}).to_string())?;
            Ok(std::fs::rename(staged, &path)?)
        };
        put(&old)?;
        let (process, port) = following(proxy, &path).await?;
        let get = async || {
            let mut client = RawClient::connect(port.address()).await?;
            client.exchange(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await
        };
        ensure!(get().await?.status() == 200);
        put(&new)?;
        until("the new version is checked", || !new.checks().is_empty()).await?;
        ensure!(get().await?.status() == 200);
        ensure!(
            new.requests() == 0,
            "{proxy:?}: the old one serves until the round is over"
        );
        // Nobody answers, and then the round is over too.
        let deadline = std::time::Instant::now() + super::stage::WITHIN;
        while new.requests() == 0 {
            ensure!(get().await?.status() == 200, "{proxy:?}: {}", process.log());
            ensure!(std::time::Instant::now() < deadline, "{proxy:?}: not in time");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_reached_by_whichever_address_answers() -> Result<()> {
    for proxy in with_envoy("addresses")? {
        let [first, other] = [Patient::well().await?, Patient::well().await?];
        let closed = Port::reserve()?;
        let address = |of: SocketAddr| harness::bootstrap::address(of);
        for (own, used) in [(first.address(), &first), (closed.address(), &other)] {
            let endpoint = json!({"endpoint": {"address": address(own),
                "additional_addresses": [{"address": address(other.address())}]}});
            let cluster = json!({"load_assignment":
                {"cluster_name": "watched", "endpoints": [{"lb_endpoints": [endpoint]}]}});
            let stage = Stage::start(proxy, &[], &cluster).await?;
            let before = used.requests();
            ensure!(stage.statuses(3).await? == [200; 3], "{proxy:?}: {own}");
            ensure!(used.requests() == before + 3, "{proxy:?}: {own}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_drains_does_not_count_for_panic() -> Result<()> {
    for proxy in with_envoy("draining endpoints")? {
        let mut patients = Vec::new();
        let mut endpoints = Vec::new();
        for status in ["DRAINING", "UNHEALTHY", "HEALTHY", "HEALTHY"] {
            let patient = Patient::well().await?;
            let address = harness::bootstrap::address(patient.address());
            endpoints.push(json!({"endpoint": {"address": address}, "health_status": status}));
            patients.push(patient);
        }
        // Two of four are too few, two of three are not.
        let cluster = json!({"common_lb_config": {"healthy_panic_threshold": {"value": 60}},
            "load_assignment": {"cluster_name": "watched", "endpoints": [{"lb_endpoints": endpoints}]}});
        let stage = Stage::start(proxy, &[], &cluster).await?;
        ensure!(
            stage.flags(patients[0].address()).await? == "/eds_status_draining",
            "{proxy:?}"
        );
        stage.wait_stat("membership_excluded", 1).await?;
        ensure!(stage.statuses(12).await? == [200; 12]);
        ensure!(patients[0].requests() + patients[1].requests() == 0, "{proxy:?}");
    }
    Ok(())
}

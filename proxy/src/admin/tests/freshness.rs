//! `/xds` and what of it becomes metrics.

use super::*;

#[test]
fn whether_it_is_up_to_date_is_said_with_the_reasons() {
    with_admin(&StandIn::live(), |address| async move {
        let page = get(&address, "/xds").await.body;
        for line in [
            "up to date: no\n",
            "  ADS: no stream for 3.0 s: 'planner', 3.2 s ago: connection refused\n",
            "  cds 'up': version 'v7' waits for ClusterLoadAssignment 'up'\n",
            "  cds: version 'v7', updated 9.0 s ago, 1 acked; 2 responses, 1 accepted, 1 refused, 0 fetch timeouts\n",
        ] {
            assert!(page.contains(line), "no {line} in {page}");
        }
        let page = get(&address, "/xds?format=json&resources").await.json();
        assert_eq!(page["up_to_date"], false);
        assert_eq!(page["problems"].as_array().unwrap().len(), 2);
        assert_eq!(page["sources"][0]["types"][0]["resources"]["acked"], 1);
        assert_eq!(page["resources"][0]["client_status"], "ACKED");
        let metrics = get(&address, "/stats/prometheus").await.body;
        for line in [
            "remora_xds_resources{xds_type=\"cds\",state=\"acked\"} 1\n",
            "remora_xds_last_update_age_seconds{xds_type=\"cds\"} 9\n",
            "remora_xds_server_connected{xds_server=\"ADS\"} 0\n",
        ] {
            assert!(metrics.contains(line), "no {line} in {metrics}");
        }
    });
}

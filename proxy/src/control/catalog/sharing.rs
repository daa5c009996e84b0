//! A change among ten thousand costs itself: every part that did not change is the very one of the version before.

use std::sync::atomic::Ordering::Relaxed;

use remora_model::cluster::Cluster;
use remora_model::route::RouteTable;
use remora_proto::{Pool, ReadOptions};
use remora_translate::config_source::Source;

use super::*;

const SERVICES: usize = 10_000;

/// Stands for the name of a service in the encoded originals: names of equal length take its place.
const ORIGINAL: &str = "service-nnnnn";

fn name(service: usize) -> String {
    format!("service-{service:05}")
}

/// An encoded resource in which the name can be exchanged.
struct Original(Vec<u8>);

impl Original {
    fn read(pool: &Pool, message: &str, yaml: &str) -> Self {
        Self(pool.read(yaml, message, ReadOptions::default()).unwrap().bytes)
    }

    fn named(&self, name: &str) -> Vec<u8> {
        let mut bytes = self.0.clone();
        let mut at = 0;
        while let Some(found) = bytes[at..]
            .windows(ORIGINAL.len())
            .position(|text| text == ORIGINAL.as_bytes())
        {
            at += found;
            bytes[at..at + ORIGINAL.len()].copy_from_slice(name.as_bytes());
        }
        bytes
    }
}

/// A control plane with ten thousand services, and what it told.
struct Mesh {
    pool: Pool,
    catalog: Catalog,
    virtual_hosts: Vec<Vec<u8>>,
    world: Arc<Snapshot>,
}

impl Mesh {
    fn new() -> Self {
        let mut mesh = Self {
            pool: Pool::load().unwrap(),
            catalog: Catalog::new(),
            virtual_hosts: Vec::new(),
            world: Arc::default(),
        };
        let (cluster, endpoints, host) = (mesh.cluster(1), mesh.endpoints("10.0.0.2"), mesh.virtual_host(15));
        for service in 0..SERVICES {
            let name = name(service);
            mesh.tell(Kind::Cluster, &name, cluster.named(&name));
            mesh.tell(Kind::Endpoints, &name, endpoints.named(&name));
            mesh.virtual_hosts.push(host.named(&name));
        }
        mesh.tell(Kind::RouteConfiguration, "routes", mesh.routes());
        mesh.publish();
        assert_eq!((mesh.world.generation, mesh.world.clusters.len()), (1, SERVICES));
        mesh
    }

    fn cluster(&self, connect_timeout: u32) -> Original {
        let eds = "type: EDS, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}";
        let yaml = format!("{{name: {ORIGINAL}, connect_timeout: {connect_timeout}s, {eds}}}");
        Original::read(&self.pool, Kind::Cluster.type_url(), &yaml)
    }

    fn endpoints(&self, second: &str) -> Original {
        let endpoint = |address: &str| {
            format!("{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: 80}}}}}}}}")
        };
        let all = [endpoint("10.0.0.1"), endpoint(second)].join(", ");
        let yaml = format!("{{cluster_name: {ORIGINAL}, endpoints: [{{lb_endpoints: [{all}]}}]}}");
        Original::read(&self.pool, Kind::Endpoints.type_url(), &yaml)
    }

    /// With a field that is ignored, so that it shows when one is looked into.
    fn virtual_host(&self, timeout: u32) -> Original {
        let route = format!("cluster: {ORIGINAL}, timeout: {timeout}s, flush_timeout: 1s");
        let yaml = format!(
            "{{name: {ORIGINAL}, domains: [{ORIGINAL}], routes: [{{match: {{prefix: /}}, route: {{{route}}}}}]}}"
        );
        Original::read(&self.pool, "envoy.config.route.v3.VirtualHost", &yaml)
    }

    /// A `RouteConfiguration` of all virtual hosts: field 1 is the name, field 2 they.
    fn routes(&self) -> Vec<u8> {
        let mut bytes = vec![0x0a, 6];
        bytes.extend(b"routes");
        for host in &self.virtual_hosts {
            bytes.push(0x12);
            let mut length = host.len();
            while length >= 0x80 {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            bytes.extend(host);
        }
        bytes
    }

    fn tell(&mut self, kind: Kind, name: &str, body: Vec<u8>) {
        let arrived = Arrived {
            source: &Some(Source::Ads),
            name: &name.into(),
            version: &"v".into(),
            body: &body.into(),
            is_static: false,
        };
        self.catalog.accept(kind, &arrived, &mut |_| Ok(())).unwrap();
    }

    fn publish(&mut self) {
        self.world = self.catalog.finish().0.expect("something changed");
    }

    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.world
            .clusters
            .iter()
            .map(|(_, cluster)| Arc::clone(cluster))
            .collect()
    }

    fn table(&self) -> Arc<RouteTable> {
        let (_, table) = self.world.route_tables.iter().next().unwrap();
        Arc::clone(table)
    }

    /// How often that field was seen in a virtual host.
    fn looked_into(&self) -> u64 {
        let ignored = |(field, _): &(&str, u64)| field.ends_with("flush_timeout");
        self.catalog
            .ignored
            .iter()
            .find(ignored)
            .map_or(0, |(_, count)| count)
    }
}

/// The positions at which two versions do not share a part.
fn renewed<T>(before: &[Arc<T>], after: &[Arc<T>]) -> Vec<usize> {
    assert_eq!(before.len(), after.len());
    (0..before.len())
        .filter(|at| !Arc::ptr_eq(&before[*at], &after[*at]))
        .collect()
}

#[test]
fn one_change_among_ten_thousand_renews_one_part() {
    let mut mesh = Mesh::new();
    one_endpoint(&mut mesh);
    one_cluster(&mut mesh);
    one_virtual_host(&mut mesh);
    nothing(&mut mesh);
}

fn one_endpoint(mesh: &mut Mesh) {
    let (before, table) = (mesh.clusters(), mesh.table());
    mesh.tell(
        Kind::Endpoints,
        &name(7),
        mesh.endpoints("10.0.0.3").named(&name(7)),
    );
    mesh.publish();
    let after = mesh.clusters();
    assert_eq!(renewed(&before, &after), [7]);
    assert!(Arc::ptr_eq(&before[7].config, &after[7].config) && Arc::ptr_eq(&before[7].live, &after[7].live));
    let (old, new) = (&before[7].endpoints.endpoints, &after[7].endpoints.endpoints);
    assert!(Arc::ptr_eq(&old[0], &new[0]), "the other endpoint is the same");
    assert!(old[1].counts().removed.load(Relaxed) && !new[1].counts().removed.load(Relaxed));
    assert!(Arc::ptr_eq(&table, &mesh.table()), "no route is touched");
}

fn one_cluster(mesh: &mut Mesh) {
    let (before, table) = (mesh.clusters(), mesh.table());
    mesh.tell(Kind::Cluster, &name(8), mesh.cluster(2).named(&name(8)));
    mesh.publish();
    let after = mesh.clusters();
    assert_eq!(renewed(&before, &after), [8]);
    assert!(Arc::ptr_eq(&before[8].endpoints, &after[8].endpoints));
    assert!(Arc::ptr_eq(&table, &mesh.table()), "no route is touched");
}

fn one_virtual_host(mesh: &mut Mesh) {
    let (before, table, looked) = (mesh.clusters(), mesh.table(), mesh.looked_into());
    assert_eq!(looked, SERVICES as u64);
    mesh.virtual_hosts[9] = mesh.virtual_host(16).named(&name(9));
    mesh.tell(Kind::RouteConfiguration, "routes", mesh.routes());
    mesh.publish();
    let after = mesh.table();
    assert_eq!(renewed(&table.virtual_hosts, &after.virtual_hosts), [9]);
    assert_eq!(mesh.looked_into(), looked + 1, "only the changed one is decoded");
    assert!(Arc::ptr_eq(&table.domains, &after.domains), "no domain moved");
    assert!(
        renewed(&before, &mesh.clusters()).is_empty(),
        "no cluster is touched"
    );
}

/// Everything again, as a control plane that restarted tells it: no new version.
fn nothing(mesh: &mut Mesh) {
    let (endpoints, routes) = (mesh.endpoints("10.0.0.2"), mesh.routes());
    for service in 100..200 {
        mesh.tell(Kind::Endpoints, &name(service), endpoints.named(&name(service)));
    }
    mesh.tell(Kind::RouteConfiguration, "routes", routes);
    assert!(mesh.catalog.finish().0.is_none());
}

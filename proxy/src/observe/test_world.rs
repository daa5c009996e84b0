//! A world for the tests of what is seen from outside, from a bootstrap in YAML.

use std::sync::Arc;

use remora_model::cluster::Cluster;
use remora_model::listener::{Routes, Terminal};
use remora_model::route::Route;
use remora_model::snapshot::{Edit, Interner, Snapshot};
use remora_proto::{Pool, UnknownFields};
use remora_translate::bootstrap::{Input, NodeFlags, load};
use remora_translate::{Context, IgnoredFields, LocalFiles, Repeated};

/// What Envoy ran with when the lines of the tests were taken, as far as they depend on it.
pub(crate) const WORLD: &str = r#"
node: {id: n1, cluster: c1}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 19080}}
    filter_chains:
    - name: chain-a
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          route_config:
            name: rc
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {name: direct, match: {path: /direct}, direct_response: {status: 201, body: {inline_string: "hello"}}}
              - {name: rw, match: {prefix: /old}, route: {cluster: up, prefix_rewrite: /new}}
              - {match: {prefix: /}, route: {cluster: up}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 1s
    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 19081}}}}]}]}
  - name: dead
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: dead
      endpoints:
      - locality: {region: r1, zone: z1}
        lb_endpoints:
        - {endpoint: {hostname: hn, address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}
        - {endpoint: {hostname: hn, address: {socket_address: {address: 127.0.0.1, port_value: 2}}}, health_status: UNHEALTHY}
"#;

/// A translated bootstrap.
pub(crate) struct TestWorld {
    /// The world.
    pub(crate) snapshot: Arc<Snapshot>,
}

impl TestWorld {
    /// Translates the static resources of a bootstrap.
    pub(crate) fn of(yaml: &str) -> Self {
        let pool = Pool::load().unwrap();
        let input = Input {
            file: Some(("world.yaml", yaml.as_bytes())),
            inline: None,
            unknown_fields: UnknownFields::Refuse,
            node: NodeFlags::default(),
        };
        let bootstrap = load(&pool, &input).unwrap().bootstrap;
        let (mut clusters, mut route_tables, mut secrets) =
            (Interner::default(), Interner::default(), Interner::default());
        let mut ignored = IgnoredFields::default();
        let mut context = Context {
            clusters: &mut clusters,
            route_tables: &mut route_tables,
            secrets: &mut secrets,
            previous: None,
            ignored: &mut ignored,
            repeated: &mut Repeated::default(),
            files: &LocalFiles,
        };
        let mut edit = Edit::new(&Snapshot::default());
        for resource in &bootstrap.clusters {
            let translated = remora_translate::cluster(&resource.bytes, &mut context).unwrap();
            let id = translated.config.id;
            edit.set_cluster(translated.config);
            if let Some(assignment) = translated.assignment {
                edit.set_endpoints(id, assignment);
            }
        }
        for resource in &bootstrap.listeners {
            edit.set_listener(
                remora_translate::listener(&resource.bytes, &mut context)
                    .unwrap()
                    .listener,
            );
        }
        Self {
            snapshot: Arc::new(edit.finish()),
        }
    }

    /// The cluster of this name.
    pub(crate) fn cluster(&self, name: &str) -> &Arc<Cluster> {
        self.snapshot
            .clusters
            .iter()
            .find(|(_, cluster)| &*cluster.config.name == name)
            .unwrap()
            .1
    }

    /// The inline route of this name.
    pub(crate) fn route(&self, name: &str) -> Arc<Route> {
        let listener = self.snapshot.listeners.iter().next().unwrap();
        let Terminal::Http(manager) = &listener.chains[0].terminal else {
            panic!("no connection manager")
        };
        let Routes::Inline(table) = &manager.routes else {
            panic!("no inline routes")
        };
        let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
        Arc::clone(routes.into_iter().find(|route| &*route.name == name).unwrap())
    }
}

//! `--mode validate`: everything that can be said of a configuration without opening a socket.

use std::sync::Arc;

use bytes::Bytes;
use remora_translate::bootstrap::Bootstrap;

use super::catalog::{Arrived, Catalog};
use super::held::Kind;

/// Translates every static resource. A secret that cannot be used is a problem only where something cannot do without.
///
/// # Errors
/// Every problem of every resource, a line each.
pub fn validate(bootstrap: &Bootstrap) -> anyhow::Result<()> {
    let mut catalog = Catalog::new();
    let (mut problems, mut of_secrets) = (Vec::new(), Vec::new());
    let parts = [
        (Kind::Secret, &bootstrap.secrets),
        (Kind::Cluster, &bootstrap.clusters),
        (Kind::Listener, &bootstrap.listeners),
    ];
    for (kind, resources) in parts {
        for resource in resources {
            let arrived = Arrived {
                source: &None,
                name: &resource.name,
                version: &Arc::from(""),
                body: &Bytes::from(resource.bytes.clone()),
                is_static: true,
            };
            if let Err(reason) = catalog.accept(kind, &arrived, &mut |_| Ok(())) {
                let list = if kind == Kind::Secret {
                    &mut of_secrets
                } else {
                    &mut problems
                };
                list.push(format!("{}: {reason}", resource.place));
            }
        }
    }
    if problems.is_empty() {
        for problem in of_secrets {
            tracing::warn!("{problem}; nothing refers to it");
        }
        Ok(())
    } else {
        problems.splice(0..0, of_secrets);
        Err(anyhow::anyhow!(problems.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use remora_translate::Pool;
    use remora_translate::bootstrap::{Input, load};

    use super::validate;

    /// What is wrong with static resources, or nothing.
    fn problems(resources: &str) -> String {
        let text = format!("static_resources: {resources}");
        let input = Input {
            inline: Some(&text),
            ..Input::default()
        };
        let loaded = load(&Pool::load().unwrap(), &input).unwrap();
        validate(&loaded.bootstrap).map_or_else(|error| error.to_string(), |()| String::new())
    }

    const SECRET: &str = "{name: s, tls_certificate: {certificate_chain: {inline_string: none}, private_key: {inline_string: none}}}";

    fn cluster(secret: &str) -> String {
        format!(
            "{{name: c, transport_socket: {{name: tls, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
             {{tls_certificate_sds_secret_configs: [{{name: {secret}}}]}}}}}}}}"
        )
    }

    #[test]
    fn a_secret_that_cannot_be_used_matters_where_it_is_used() {
        assert_eq!(problems(&format!("{{secrets: [{SECRET}]}}")), "");
        let used = problems(&format!("{{secrets: [{SECRET}], clusters: [{}]}}", cluster("s")));
        assert!(
            used.contains("Failed to load certificate chain from <inline>")
                && used.contains("Unknown static secret: s"),
            "{used}"
        );
        let missing = problems(&format!("{{clusters: [{}]}}", cluster("nobody")));
        assert!(missing.ends_with("Unknown static secret: nobody"), "{missing}");
    }

    #[test]
    fn an_inline_route_of_the_bootstrap_names_a_cluster_of_the_bootstrap() {
        let listener = "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: \
                        [{name: h, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.\
                        http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, http_filters: [{name: r, typed_config: \
                        {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}], route_config: \
                        {virtual_hosts: [{name: v, domains: [\"*\"], routes: [{match: {prefix: /}, route: {cluster: c}}]}]}}}]}]}";
        let alone = problems(&format!("{{listeners: [{listener}]}}"));
        assert!(alone.ends_with("route: unknown cluster 'c'"), "{alone}");
        assert_eq!(
            problems(&format!("{{clusters: [{{name: c}}], listeners: [{listener}]}}")),
            ""
        );
    }
}

//! `envoy.filters.http.grpc_stats`.

use std::sync::Arc;

use remora_model::filter::GrpcStats;

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::filters::http::grpc_stats::v3::{
    FilterConfig, filter_config::PerMethodStatSpecifier,
};

pub(super) const STATS: &str = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
pub(super) const WEB: &str = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";

pub(super) fn stats(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<GrpcStats>> {
    let said: FilterConfig = extension.decode(work)?;
    work.review(&said);
    let mut stats = GrpcStats {
        replace_dots: said.replace_dots_in_grpc_service_name,
        upstream_stats: said.enable_upstream_stats,
        ..GrpcStats::default()
    };
    match &said.per_method_stat_specifier {
        Some(PerMethodStatSpecifier::StatsForAllMethods(said)) => stats.all_methods = said.value,
        Some(PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)) => {
            for service in &list.services {
                let paths = service.method_names.iter();
                let paths = paths.map(|method| format!("/{}/{method}", service.name).into());
                stats.methods.extend(paths);
            }
        }
        None => {}
    }
    Some(Arc::new(stats))
}

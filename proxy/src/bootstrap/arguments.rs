//! The command line: Envoy's spelling where Envoy has the flag, so that agents that start Envoy can start Remora.
//!
//! Holds: a flag of Envoy's that has no meaning here is accepted with a warning; a flag that neither knows is an error.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::observe::logging::{LoggingError, LoggingOptions};

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serve traffic.
    Serve,
    /// Check the configuration and exit.
    Validate,
}

/// How to run the proxy.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Bootstrap file: Envoy v3, YAML or JSON
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config_path: Option<PathBuf>,
    /// Bootstrap as inline YAML or JSON, merged over the file
    #[arg(long, value_name = "YAML")]
    pub config_yaml: Option<String>,
    /// `validate` checks the configuration and exits
    #[arg(long, value_enum, default_value = "serve")]
    pub mode: Mode,
    /// Worker threads [default: what the cgroup allows, 2 at most]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Levels of single components, as `name:level,name:level`
    #[arg(long, value_name = "LEVELS", hide_short_help = true)]
    pub component_log_level: Option<String>,
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Seconds that connections may live on after they were told to end
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub drain_time_s: u64,
    /// Ask a delta control plane for the endpoints of clusters that traffic uses only, and until they are idle this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub on_demand_endpoints: Option<u64>,
    /// Clusters and listeners that the control plane takes back stay as they were (gRFC A53); by default they go, as in Envoy
    #[arg(long)]
    pub ignore_resource_deletion: bool,
    /// Where the last good resources of the control plane are kept, for a start without it (no private keys)
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Milliseconds until a control plane that cannot be reached at the start is replaced by what --state-dir has
    #[arg(long, value_name = "MS", default_value_t = 50, hide_short_help = true)]
    pub state_wait_ms: u64,
    /// Where to write the admin endpoint's address
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub admin_address_path: Option<PathBuf>,
    /// `node.id` if the bootstrap has none
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub service_node: Option<String>,
    /// `node.cluster` if the bootstrap has none
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    pub service_cluster: Option<String>,
    /// `node.locality.zone` if the bootstrap has none
    #[arg(long, value_name = "ZONE", hide_short_help = true)]
    pub service_zone: Option<String>,
    /// Unknown fields of the bootstrap are warnings, not errors
    #[arg(long, hide_short_help = true)]
    pub allow_unknown_static_fields: bool,
    /// Envoy's flags that have no meaning here.
    #[command(flatten)]
    pub without_effect: WithoutEffect,
}

/// Envoy's flags that are accepted and change nothing.
#[derive(Debug, Clone, Args)]
pub struct WithoutEffect {
    #[arg(long, hide = true)]
    log_path: Option<String>,
    #[arg(long, hide = true)]
    base_id: Option<String>,
    #[arg(long, hide = true)]
    use_dynamic_base_id: bool,
    #[arg(long, hide = true)]
    base_id_path: Option<String>,
    #[arg(long, hide = true)]
    restart_epoch: Option<String>,
    #[arg(long, hide = true)]
    disable_hot_restart: bool,
    #[arg(long, hide = true)]
    enable_mutex_tracing: bool,
    #[arg(long, hide = true)]
    parent_shutdown_time_s: Option<u64>,
    #[arg(long, hide = true)]
    drain_strategy: Option<String>,
    #[arg(long, hide = true)]
    local_address_ip_version: Option<String>,
    #[arg(long, hide = true)]
    file_flush_interval_msec: Option<u64>,
    #[arg(long, hide = true)]
    file_flush_min_size_kb: Option<u64>,
    #[arg(long, hide = true)]
    cpuset_threads: bool,
    #[arg(long, hide = true)]
    disable_extensions: Option<String>,
    #[arg(long, hide = true)]
    enable_fine_grain_logging: bool,
    #[arg(long, hide = true)]
    enable_fine_grain_logs: bool,
    #[arg(long, hide = true)]
    log_format_escaped: bool,
    #[arg(long, hide = true)]
    skip_deprecated_logs: bool,
    #[arg(long, hide = true)]
    ignore_unknown_dynamic_fields: bool,
    #[arg(long, hide = true)]
    reject_unknown_dynamic_fields: bool,
    #[arg(long, hide = true)]
    socket_path: Option<String>,
    #[arg(long, hide = true)]
    socket_mode: Option<String>,
    #[arg(long, hide = true)]
    enable_core_dump: bool,
    #[arg(long, hide = true)]
    bootstrap_version: Option<u32>,
    #[arg(long, hide = true)]
    stats_tag: Vec<String>,
}

impl WithoutEffect {
    /// The flags that were given.
    pub fn given(&self) -> Vec<&'static str> {
        [
            ("--log-path", self.log_path.is_some()),
            ("--base-id", self.base_id.is_some()),
            ("--use-dynamic-base-id", self.use_dynamic_base_id),
            ("--base-id-path", self.base_id_path.is_some()),
            ("--restart-epoch", self.restart_epoch.is_some()),
            ("--disable-hot-restart", self.disable_hot_restart),
            ("--enable-mutex-tracing", self.enable_mutex_tracing),
            ("--parent-shutdown-time-s", self.parent_shutdown_time_s.is_some()),
            ("--drain-strategy", self.drain_strategy.is_some()),
            (
                "--local-address-ip-version",
                self.local_address_ip_version.is_some(),
            ),
            (
                "--file-flush-interval-msec",
                self.file_flush_interval_msec.is_some(),
            ),
            ("--file-flush-min-size-kb", self.file_flush_min_size_kb.is_some()),
            ("--cpuset-threads", self.cpuset_threads),
            ("--disable-extensions", self.disable_extensions.is_some()),
            ("--enable-fine-grain-logging", self.enable_fine_grain_logging),
            ("--enable-fine-grain-logs", self.enable_fine_grain_logs),
            ("--log-format-escaped", self.log_format_escaped),
            ("--skip-deprecated-logs", self.skip_deprecated_logs),
            (
                "--ignore-unknown-dynamic-fields",
                self.ignore_unknown_dynamic_fields,
            ),
            (
                "--reject-unknown-dynamic-fields",
                self.reject_unknown_dynamic_fields,
            ),
            ("--socket-path", self.socket_path.is_some()),
            ("--socket-mode", self.socket_mode.is_some()),
            ("--enable-core-dump", self.enable_core_dump),
            ("--bootstrap-version", self.bootstrap_version.is_some()),
            ("--stats-tag", !self.stats_tag.is_empty()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}

impl Arguments {
    /// How the log is written.
    ///
    /// # Errors
    /// A level that does not exist.
    pub fn logging(&self) -> Result<LoggingOptions, LoggingError> {
        Ok(LoggingOptions {
            level: Some(self.log_level.parse()?),
            components: self.component_log_level.clone(),
            format: Some(self.log_format.clone()),
        })
    }

    /// The flags with a value, for `/server_info`.
    pub fn described(&self) -> serde_json::Value {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let said = [
            ("config_path", text(&self.config_path)),
            ("config_yaml", self.config_yaml.clone()),
            ("concurrency", self.concurrency.map(|n| n.to_string())),
            ("log_level", Some(self.log_level.clone())),
            ("component_log_level", self.component_log_level.clone()),
            ("log_format", Some(self.log_format.clone())),
            ("drain_time", Some(format!("{}s", self.drain_time_s))),
            ("admin_address_path", text(&self.admin_address_path)),
            ("service_node", self.service_node.clone()),
            ("service_cluster", self.service_cluster.clone()),
            ("service_zone", self.service_zone.clone()),
        ];
        said.into_iter()
            .filter_map(|(name, value)| Some((name, serde_json::Value::from(value?))))
            .collect()
    }
}

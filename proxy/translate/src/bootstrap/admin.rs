//! Where is the administration endpoint? (`envoy.config.bootstrap.v3.Admin`)
//!
//! What always holds: an address is an IP address and port or a Unix socket; no restriction that was asked for
//! (`allow_paths`) is left out silently.

use std::net::{IpAddr, SocketAddr};

use prost::Message;
use remora_proto::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use remora_proto::pb::envoy::config::bootstrap::v3 as pb;
use remora_proto::pb::envoy::config::core::v3 as core;
use remora_proto::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use remora_proto::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use remora_proto::{Problem, type_url};

/// The administration endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; `None` where the bootstrap says nothing, and then there is none.
    pub address: Option<AdminAddress>,
    /// Files to which its requests are logged, as file access loggers name them; `/dev/null` among them is one.
    pub access_log_paths: Vec<String>,
}

/// Where the administration endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// TCP; port 0 lets the system choose.
    Socket(SocketAddr),
    /// A Unix socket.
    Pipe {
        /// Its path; with a leading `@` in the abstract namespace.
        path: String,
        /// Its permissions, such as `0o600`; 0 leaves them to the umask.
        mode: u32,
    },
}

pub(super) fn admin(said: &pb::Admin, problems: &mut Vec<Problem>) -> Option<Admin> {
    let before = problems.len();
    if !said.allow_paths.is_empty() {
        let found = "paths; the restriction is not supported, and without it all paths would answer";
        problems.push(Problem::new(
            "admin.allow_paths",
            "no restriction of paths",
            found,
        ));
    }
    let address = said
        .address
        .as_ref()
        .and_then(|address| address_of(address, problems));
    #[expect(deprecated, reason = "Envoy takes it still")]
    let deprecated = Some(said.access_log_path.clone()).filter(|path| !path.is_empty());
    let files = said.access_log.iter().filter_map(|log| match &log.config_type {
        Some(ConfigType::TypedConfig(any))
            if type_url::message_name(&any.type_url)
                == "envoy.extensions.access_loggers.file.v3.FileAccessLog" =>
        {
            FileAccessLog::decode(any.value.as_slice())
                .ok()
                .map(|file| file.path)
        }
        _ => None,
    });
    let access_log_paths = deprecated.into_iter().chain(files).collect();
    (problems.len() == before).then_some(Admin {
        address,
        access_log_paths,
    })
}

fn address_of(said: &core::Address, problems: &mut Vec<Problem>) -> Option<AdminAddress> {
    match &said.address {
        Some(core::address::Address::SocketAddress(said)) => {
            socket_address(said, problems).map(AdminAddress::Socket)
        }
        Some(core::address::Address::Pipe(pipe)) => Some(AdminAddress::Pipe {
            path: pipe.path.clone(),
            mode: pipe.mode,
        }),
        Some(core::address::Address::EnvoyInternalAddress(_)) => {
            let problem = Problem::new(
                "admin.address",
                "socket_address or pipe",
                "envoy_internal_address",
            );
            problems.push(problem);
            None
        }
        // A broken field rule, reported already.
        None => None,
    }
}

fn socket_address(said: &core::SocketAddress, problems: &mut Vec<Problem>) -> Option<SocketAddr> {
    let path = "admin.address.socket_address";
    if said.protocol == Protocol::Udp as i32 {
        problems.push(Problem::new(format!("{path}.protocol"), "TCP", "UDP"));
    }
    let ip = said.address.parse::<IpAddr>();
    if ip.is_err() && !said.address.is_empty() {
        problems.push(Problem::new(
            format!("{path}.address"),
            "an IP address",
            format!("{:?}", said.address),
        ));
    }
    let port = match &said.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(*port).ok(),
        Some(PortSpecifier::NamedPort(name)) => {
            let problem = Problem::new(
                format!("{path}.named_port"),
                "port_value",
                format!("the name {name:?}"),
            );
            problems.push(problem);
            None
        }
        None => None,
    };
    Some(SocketAddr::new(ip.ok()?, port?))
}

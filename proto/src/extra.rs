//! Which messages of xDS does the generated set lack, and how is an extension found inside a `TypedStruct`?
//!
//! What always holds: these messages have the field numbers of `xds/type/v3/typed_struct.proto`,
//! `udpa/type/v1/typed_struct.proto` and `xds/data/orca/v3/orca_load_report.proto`; `descriptors` describes the same to
//! the pool, and a test compares the two. It does not interpret what a `TypedStruct` holds.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::{Any, Struct};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions};

use crate::type_url::message_name;

/// The full names of the two spellings of a `TypedStruct`; both mean the same.
pub const TYPED_STRUCT_NAMES: [&str; 2] = ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"];

/// `xds.type.v3.TypedStruct` and, field by field the same, `udpa.type.v1.TypedStruct`: an extension's configuration as
/// free JSON, for senders and receivers of which one does not have the type.
#[derive(Clone, PartialEq, Message)]
pub struct TypedStruct {
    /// The type URL of the message that `value` is the JSON form of.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The JSON form.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

/// `xds.data.orca.v3.OrcaLoadReport`: what a backend says about its load.
#[derive(Clone, PartialEq, Message)]
pub struct OrcaLoadReport {
    /// CPU in use, as a fraction of what there is; may exceed 1.
    #[prost(double, tag = "1")]
    pub cpu_utilization: f64,
    /// Memory in use, from 0 to 1.
    #[prost(double, tag = "2")]
    pub mem_utilization: f64,
    /// Total requests per second that the backend serves (deprecated in favour of `rps_fractional`).
    #[prost(uint64, tag = "3")]
    pub rps: u64,
    /// Costs of this request, by name.
    #[prost(map = "string, double", tag = "4")]
    pub request_cost: HashMap<String, f64>,
    /// Utilisations by name, from 0 to 1.
    #[prost(map = "string, double", tag = "5")]
    pub utilization: HashMap<String, f64>,
    /// Total requests per second that the backend serves.
    #[prost(double, tag = "6")]
    pub rps_fractional: f64,
    /// Total errors per second.
    #[prost(double, tag = "7")]
    pub eps: f64,
    /// Values by name, without a meaning fixed by the protocol.
    #[prost(map = "string, double", tag = "8")]
    pub named_metrics: HashMap<String, f64>,
    /// Utilisation as the application defines it; may exceed 1.
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

/// The inner type URL and JSON form of a `TypedStruct` of either spelling; `None` when `any` is something else or cannot be
/// decoded. A `TypedStruct` without `value` holds the empty object.
#[must_use]
pub fn unwrap_typed_struct(any: &Any) -> Option<(String, Struct)> {
    if !TYPED_STRUCT_NAMES.contains(&message_name(&any.type_url)) {
        return None;
    }
    let inner = TypedStruct::decode(any.value.as_slice()).ok()?;
    Some((inner.type_url, inner.value.unwrap_or_default()))
}

/// The descriptors of the messages in this file, for the pool.
pub(crate) fn descriptors() -> Vec<FileDescriptorProto> {
    let typed_struct = |package: &str, file: &str| FileDescriptorProto {
        name: Some(file.into()),
        package: Some(package.into()),
        dependency: vec!["google/protobuf/struct.proto".into()],
        message_type: vec![DescriptorProto {
            name: Some("TypedStruct".into()),
            field: vec![
                field("type_url", 1, Type::String),
                FieldDescriptorProto {
                    type_name: Some(".google.protobuf.Struct".into()),
                    ..field("value", 2, Type::Message)
                },
            ],
            ..DescriptorProto::default()
        }],
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    };
    vec![
        typed_struct("xds.type.v3", "xds/type/v3/typed_struct.proto"),
        typed_struct("udpa.type.v1", "udpa/type/v1/typed_struct.proto"),
        orca(),
    ]
}

fn orca() -> FileDescriptorProto {
    let maps = [
        ("request_cost", 4, "RequestCostEntry"),
        ("utilization", 5, "UtilizationEntry"),
        ("named_metrics", 8, "NamedMetricsEntry"),
    ];
    let mut fields = vec![
        field("cpu_utilization", 1, Type::Double),
        field("mem_utilization", 2, Type::Double),
        field("rps", 3, Type::Uint64),
        field("rps_fractional", 6, Type::Double),
        field("eps", 7, Type::Double),
        field("application_utilization", 9, Type::Double),
    ];
    fields.extend(maps.map(|(name, number, entry)| FieldDescriptorProto {
        label: Some(Label::Repeated as i32),
        type_name: Some(format!(".xds.data.orca.v3.OrcaLoadReport.{entry}")),
        ..field(name, number, Type::Message)
    }));
    let entries = maps.map(|(_, _, entry)| DescriptorProto {
        name: Some(entry.into()),
        field: vec![field("key", 1, Type::String), field("value", 2, Type::Double)],
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        }),
        ..DescriptorProto::default()
    });
    FileDescriptorProto {
        name: Some("xds/data/orca/v3/orca_load_report.proto".into()),
        package: Some("xds.data.orca.v3".into()),
        message_type: vec![DescriptorProto {
            name: Some("OrcaLoadReport".into()),
            field: fields,
            nested_type: entries.to_vec(),
            ..DescriptorProto::default()
        }],
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    }
}

fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(kind as i32),
        ..FieldDescriptorProto::default()
    }
}

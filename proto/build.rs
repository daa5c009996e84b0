//! Which descriptors does Remora read configuration by? This script takes the descriptor set that `envoy-types`
//! ships (`src/generated/types.bin`), drops the source comments and writes the rest to `OUT_DIR`.
//!
//! What always holds: the set is walked on the wire, so that extension options (the `validate.rules` and
//! `udpa.annotations.sensitive` of every field) survive; no text of Envoy's enters this repository.
//! It does not compile protos: relative names in Envoy's tree resolve differently in other compilers.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `FileDescriptorSet.file` and `FileDescriptorProto.source_code_info` of `google/protobuf/descriptor.proto`.
const SET_FILE: u64 = 1;
const FILE_SOURCE_CODE_INFO: u64 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rerun-if-changed={}",
        manifest_dir.join("Cargo.toml").display()
    );
    // The workspace manifest pins the version of envoy-types; a new pin means another file to read.
    println!(
        "cargo::rerun-if-changed={}",
        manifest_dir.join("../Cargo.toml").display()
    );
    let package = envoy_types_dir(&manifest_dir)?;
    let types = package.join("src/generated/types.bin");
    println!("cargo::rerun-if-changed={}", types.display());
    let set = fs::read(&types).map_err(|error| {
        format!(
            "{} cannot be read ({error}): this version of envoy-types does not ship its descriptor set as \
             src/generated/types.bin, which remora-proto reads; choose a version that does",
            types.display()
        )
    })?;
    let stripped =
        strip(&set).map_err(|error| format!("{} is no FileDescriptorSet: {error}", types.display()))?;
    let out = Path::new(&env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&out, stripped).map_err(|error| format!("{} cannot be written: {error}", out.display()))?;
    Ok(())
}

/// The folder of the `envoy-types` package that this workspace resolves to: from cargo where it answers, else from the
/// registry folder. `cargo metadata --offline` wants every package of the lock file on disk, also those that the
/// build at hand did not need to download, so a refusal is no reason to stop.
fn envoy_types_dir(manifest_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut refusals = Vec::new();
    for argument in ["--offline", "--locked"] {
        match metadata(manifest_dir, argument) {
            Ok(dir) => return Ok(dir),
            Err(refusal) => refusals.push(refusal.to_string()),
        }
    }
    registry_dir(manifest_dir).ok_or_else(|| {
        format!(
            "the sources of the package envoy-types were not found: {}",
            refusals.join("; then: ")
        )
        .into()
    })
}

fn metadata(manifest_dir: &Path, argument: &str) -> Result<PathBuf, Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(&cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--filter-platform",
            &env::var("TARGET")?,
        ])
        .arg(argument)
        .current_dir(manifest_dir)
        .output()
        .map_err(|error| format!("{} does not start: {error}", cargo.display()))?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
        .into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| {
            Path::new(package["manifest_path"].as_str()?)
                .parent()
                .map(Path::to_path_buf)
        })
        .ok_or_else(|| "cargo metadata names no package envoy-types".into())
}

/// `$CARGO_HOME/registry/src/*/envoy-types-VERSION`, for the version in the lock file.
fn registry_dir(manifest_dir: &Path) -> Option<PathBuf> {
    let lock = fs::read_to_string(manifest_dir.join("../Cargo.lock")).ok()?;
    let version = lock
        .split_once("name = \"envoy-types\"\nversion = \"")?
        .1
        .split_once('"')?
        .0;
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))?;
    fs::read_dir(home.join("registry/src"))
        .ok()?
        .flatten()
        .map(|registry| registry.path().join(format!("envoy-types-{version}")))
        .find(|package| package.is_dir())
}

/// The same set without the comments, which are four fifths of it.
fn strip(set: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(set.len() / 4);
    for file in fields(set)? {
        if file.number != SET_FILE {
            return Err(format!("field {} where only files are expected", file.number));
        }
        let mut kept = Vec::with_capacity(file.payload.len());
        for field in fields(file.payload)? {
            if field.number != FILE_SOURCE_CODE_INFO {
                kept.extend_from_slice(field.whole);
            }
        }
        out.push(0x0a);
        write_varint(&mut out, kept.len() as u64);
        out.extend_from_slice(&kept);
    }
    Ok(out)
}

struct Field<'a> {
    number: u64,
    /// Tag and value as they stand.
    whole: &'a [u8],
    /// The bytes of a length-delimited value; empty for numbers.
    payload: &'a [u8],
}

fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, String> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let tag = read_varint(message, &mut at)?;
        let length = match tag & 7 {
            0 => {
                read_varint(message, &mut at)?;
                0
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(read_varint(message, &mut at)?).map_err(|error| error.to_string())?,
            wire_type => return Err(format!("wire type {wire_type} at byte {start}")),
        };
        let end = at
            .checked_add(length)
            .filter(|end| *end <= message.len())
            .ok_or("truncated field")?;
        fields.push(Field {
            number: tag >> 3,
            whole: &message[start..end],
            payload: &message[at..end],
        });
        at = end;
    }
    Ok(fields)
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or("truncated number")?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number longer than ten bytes".into())
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

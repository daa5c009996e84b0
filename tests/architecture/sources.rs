//! Which files make a crate, which module is each, and which of them are tests?
//!
//! Follows `mod` declarations from a crate's root as the compiler does, so a file that nothing declares is found out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::{Attribute, Item, Meta};

/// One file of a crate.
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) file: PathBuf,
    /// `["data_path", "http"]`; empty for the crate's root.
    pub(crate) module: Vec<String>,
    /// Reached through `#[cfg(test)]`.
    pub(crate) test: bool,
    pub(crate) text: String,
}

/// The repository's top folder.
pub(crate) fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// All files of the crate whose root is `root`, relative to the repository.
///
/// # Errors
/// A file that cannot be read or parsed, or a `mod` without a file.
pub(crate) fn of_crate(root: &str) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    follow(Path::new(root), Vec::new(), false, true, &mut sources)?;
    Ok(sources)
}

fn follow(
    file: &Path,
    module: Vec<String>,
    test: bool,
    owns_folder: bool,
    into: &mut Vec<Source>,
) -> Result<()> {
    let text =
        std::fs::read_to_string(repository().join(file)).with_context(|| file.display().to_string())?;
    let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let children = match file.file_stem() {
        Some(stem) if !owns_folder => folder.join(stem),
        _ => folder.to_owned(),
    };
    into.push(Source {
        file: file.to_owned(),
        module: module.clone(),
        test,
        text,
    });
    declared(&parsed.items, folder, &children, &module, test, into)
}

fn declared(
    items: &[Item],
    folder: &Path,
    children: &Path,
    module: &[String],
    test: bool,
    into: &mut Vec<Source>,
) -> Result<()> {
    for item in items {
        let Item::Mod(declaration) = item else { continue };
        let name = declaration.ident.to_string();
        let test = test || is_test(&declaration.attrs);
        let inner: Vec<String> = module.iter().cloned().chain([name.clone()]).collect();
        if let Some((_, items)) = &declaration.content {
            declared(items, folder, &children.join(&name), &inner, test, into)?;
            continue;
        }
        if let Some(path) = path_attribute(&declaration.attrs) {
            follow(&folder.join(path), inner, test, true, into)?;
            continue;
        }
        let flat = children.join(format!("{name}.rs"));
        let nested = children.join(&name).join("mod.rs");
        if repository().join(&flat).is_file() {
            follow(&flat, inner, test, false, into)?;
        } else if repository().join(&nested).is_file() {
            follow(&nested, inner, test, true, into)?;
        } else {
            bail!(
                "`mod {name}` has neither {} nor {}",
                flat.display(),
                nested.display()
            );
        }
    }
    Ok(())
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(said) if said.path.is_ident("path") => match &said.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// Whether the attributes say `#[test]`, `#[cfg(test)]` or `#[cfg(all(test, ...))]`, so that a build without tests
/// leaves the item out.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let said: String = list.tokens.to_string().split_whitespace().collect();
            said == "test"
                || said.starts_with("all(test,")
                || (said.starts_with("all(") && said.contains(",test"))
        }
        _ => false,
    })
}

/// Every Rust file below `folder` (relative to the repository), by walking; build output is left out.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn below(folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![repository().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path.strip_prefix(repository())?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

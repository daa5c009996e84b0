//! `path_match_policy` and `path_rewrite_policy`: extensions of a route's path, of which URI templates are supported.

use remora_model::route::{TemplateRewrite, UriTemplate};

use crate::context::Work;
use crate::extension::{self, Extension};
use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
use crate::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use crate::pb::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;

const MATCH: &str = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
const REWRITE: &str = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig";
/// Longest template, bytes (the rule of both messages).
const LONGEST: usize = 256;

/// The template of a path matcher, a `UriTemplateMatchConfig` in an extension.
pub(crate) fn matching(work: &mut Work<'_, '_>, said: &TypedExtensionConfig) -> Option<UriTemplate> {
    let said: UriTemplateMatchConfig = open(work, said, MATCH)?.decode(work)?;
    let text = sized(work, "path_template", &said.path_template)?;
    match UriTemplate::new(text) {
        Ok(template) => Some(template),
        Err(error) => {
            work.wrong(format!(
                "path_match_policy.path_template {text} is invalid: {error}"
            ));
            None
        }
    }
}

/// The rewrite of a path that `template` matched.
pub(crate) fn rewrite(
    work: &mut Work<'_, '_>,
    said: &TypedExtensionConfig,
    template: Option<&UriTemplate>,
) -> Option<TemplateRewrite> {
    let said: UriTemplateRewriteConfig = open(work, said, REWRITE)?.decode(work)?;
    let text = sized(work, "path_template_rewrite", &said.path_template_rewrite)?;
    let Some(template) = template else {
        let (own, other) = (
            "envoy.path.rewrite.uri_template.uri_template_rewriter",
            "envoy.path.match.uri_template.uri_template_matcher",
        );
        work.wrong(format!("unable to use {own} extension without {other} extension"));
        return None;
    };
    TemplateRewrite::new(text, template)
        .map_err(|error| work.wrong(error.to_string()))
        .ok()
}

fn open<'a>(work: &mut Work<'_, '_>, said: &'a TypedExtensionConfig, wanted: &str) -> Option<Extension<'a>> {
    let Some(any) = &said.typed_config else {
        work.wrong_at("typed_config", "expected a URI template, found none");
        return None;
    };
    let extension = Extension::open(any);
    if extension.kind != wanted {
        work.wrong_at("typed_config", extension::unknown(&said.name, &extension.kind));
        return None;
    }
    Some(extension)
}

fn sized<'t>(work: &mut Work<'_, '_>, field: &str, text: &'t str) -> Option<&'t str> {
    let fits = (1..=LONGEST).contains(&text.len());
    if !fits {
        let rule = "value must have between 1 and 256 characters inclusive";
        work.wrong_at(field, format!("{rule}, found {}", text.len()));
    }
    fits.then_some(text)
}

//! URI templates, as Envoy 1.40 reads them.

use super::*;

fn error(text: &str) -> String {
    UriTemplate::new(text).map_or_else(
        |error| error.to_string(),
        |template| format!("takes {template:?}"),
    )
}

#[test]
fn a_template_matches_whole_segments_and_names_them() {
    for (template, path, takes) in [
        ("/a/*", "/a/b", true),
        ("/a/*", "/a/", false),
        ("/a/*", "/a/b/c", false),
        ("/a/*", "/x/a/b", false),
        ("/a/**", "/a/", true),
        ("/a/**", "/a/b/c", true),
        ("/a/**", "/a", false),
        ("/a/", "/a/", true),
        ("/a/", "/a", false),
        ("/", "/", true),
        ("/", "/a", false),
        ("/**.m3u8", "/a/b.m3u8", true),
        ("/**.m3u8", "/a/b_m3u8", false),
        ("/a+b/$(c).d", "/a+b/$(c).d", true),
        ("/a+b/$(c).d", "/aab/$(c)xd", false),
        ("/x*", "/xxx", true),
        ("/x*", "/xy", false),
        ("/v{n}.html", "/v12.html", true),
        ("/v{n}.html", "/12.html", false),
        ("/{x=b/*}/c", "/b/1/c", true),
        ("/a/*", "/a/b%2Fc", true),
        ("/a/*", "/a/b\"", false),
    ] {
        assert_eq!(
            UriTemplate::new(template).unwrap().matches(path),
            takes,
            "{template} {path}"
        );
    }
}

#[test]
fn a_rewrite_is_made_of_the_variables() {
    for (template, rewrite, path, made) in [
        ("/d/{x}", "/n/{x}", "/d/12", Some("/n/12")),
        ("/a/{x=**}.ts", "/{x}/z", "/a/b/c.ts", Some("/b/c/z")),
        ("/a/{x=b/*}/{y}", "/{y}-{x}", "/a/b/1/2", Some("/2-b/1")),
        ("/a/{x}", "/{x}{x}", "/a/b", Some("/bb")),
        ("/a/{x}", "/n", "/a/b", Some("/n")),
        ("/x*{a}", "/{a}", "/xxy", Some("/y")),
        ("/a/{x}", "/n", "/b", None),
    ] {
        let rewrite = TemplateRewrite::new(rewrite, &UriTemplate::new(template).unwrap()).unwrap();
        assert_eq!(rewrite.apply(path).as_deref(), made, "{template} {path}");
    }
}

#[test]
fn what_is_no_template_is_said_as_envoy_says_it() {
    for (template, sentence) in [
        ("a", "Invalid pattern: \"a\""),
        ("/a b", "Invalid pattern: \"/a b\""),
        ("/é", "Invalid pattern: \"/é\""),
        ("/a//b", "Invalid literal: \"\""),
        ("/a?x", "Invalid literal: \"a?x\""),
        ("/x}", "Invalid literal: \"x}\""),
        ("/x{a/b}", "Invalid literal: \"x{a\""),
        ("/*{a}", "Invalid literal: \"{a}\""),
        ("/{a=^}", "Invalid literal: \"^\""),
        ("/x^{a}", "Invalid prefix literal: \"x^\""),
        ("/{a}{b}", "Invalid suffix literal: \"{b}\""),
        ("/{a={b}}", "Invalid suffix literal: \"}\""),
        ("/b/{", "Unmatched variable bracket in mixed pattern: \"{\""),
        ("/{a=*", "Unmatched variable bracket in mixed pattern: \"{a=*\""),
        ("/{1}", "Invalid variable name: \"1\""),
        ("/{}", "Invalid variable name: \"\""),
        ("/{a=}", "Empty variable match"),
        ("/{a=*b}", "Invalid variable match: \"b\""),
        ("/{a=b/}", "Invalid variable match: \"/\""),
        ("/{a}/{a}", "Repeated variable name: \"a\""),
        ("/{a}/{b}/{c}/{d}/{e}/{f}", "Exceeded variable count limit (5)"),
        (
            "/{abcdefghijklmnopq}",
            "Invalid variable name length (length of \"abcdefghijklmnopq\" should be at least 1 and no more than 16)",
        ),
        ("/**/*", "Glob after text glob."),
        ("/{a=**/*}", "Glob after text glob."),
        ("/**/{a}.x", "Implicit variable path glob after text glob."),
        ("/*.h/x", "Prefix match not supported."),
    ] {
        assert_eq!(error(template), sentence, "{template}");
    }
}

#[test]
fn a_rewrite_names_only_variables_that_are_there() {
    let template = UriTemplate::new("/a/{x}").unwrap();
    let error = |rewrite| TemplateRewrite::new(rewrite, &template).unwrap_err().to_string();
    assert_eq!(
        error("/b/{y}"),
        "mismatch between variables in path_match_policy /a/{x} and path_rewrite_policy /b/{y}"
    );
    for rewrite in ["b/{x}", "/b//{x}", "/b/{x", "/b/{1}", "/b c", ""] {
        let sentence = format!("path_rewrite_policy.path_template_rewrite {rewrite} is invalid");
        assert_eq!(error(rewrite), sentence);
    }
}

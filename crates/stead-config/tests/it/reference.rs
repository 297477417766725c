//! The option reference says what the contracts say.

use std::path::Path;

#[test]
fn the_option_reference_in_docs_is_fresh() {
    let page = stead_config::option_reference().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/options.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/options.md is stale: run `UPDATE_DOCS=1 cargo nextest run -p stead-config`");
}

#[test]
fn every_option_has_a_text() {
    let page = stead_config::option_reference().unwrap();
    let entries: Vec<&str> = page.split("\n### ").skip(1).collect();
    assert!(entries.len() > 80, "{}", entries.len());
    for entry in entries {
        let paragraphs =
            entry.split("\n## ").next().unwrap().split("\n\n").filter(|text| !text.trim().is_empty()).count();
        assert!(paragraphs >= 3, "an option without a text: {entry}");
    }
}

//! Mistakes in the declaration: each is found by `check`, `plan`, `deploy` and `update` alike, before any server is asked.

use crate::operator::Operator;

/// A test for a mistake in a module: what `check` says, and that every other command says it too.
macro_rules! wrong {
    ($($name:ident: $module:expr;)*) => {
        $(#[test]
        fn $name() {
            let operator = Operator::with_module($module);
            let said = operator.refused(1, &["check"]);
            for command in ["plan", "deploy", "status"] {
                let other = operator.refused(1, &[command]);
                assert_eq!(other, said, "{command}");
            }
            insta::assert_snapshot!(said);
        })*
    };
}

wrong! {
    a_syntax_error: "{\n  services.nginx.enable = ,\n}\n";
    a_misspelt_option: "{\n  services.nginx.virtualHosts.\"a.example\".locations.\"/\".proxypass = \"http://127.0.0.1:1\",\n}\n";
    a_wrong_type: "{\n  services.nginx.serverTokens = \"yes\",\n}\n";
    two_modules_that_disagree: "{\n  services.nginx.virtualHosts.\"a.example\".locations.\"/\".tryFiles = \"$uri /index.html\",\n}\n";
    an_undeclared_input: "fun { inputs, .. } => {\n  services.nginx.virtualHosts.\"b.example\".root = inputs.siet.path,\n}\n";
    a_missing_import: "{\n  services = import \"services.ncl\",\n}\n";
}

/// A test for a mistake that shows when the generation is planned.
macro_rules! cannot_be_planned {
    ($($name:ident: $module:expr;)*) => {
        $(#[test]
        fn $name() {
            let operator = Operator::with_module($module);
            insta::assert_snapshot!(operator.refused(1, &["check"]));
        })*
    };
}

cannot_be_planned! {
    an_exec_that_is_not_in_the_release: "fun { inputs, .. } => {\n  apps.shop = { source = inputs.site.path, exec = \"bin/shop start\" },\n}\n";
    an_exec_that_is_no_program: "fun { inputs, .. } => {\n  apps.shop = { source = inputs.site.path, exec = \"index.html\" },\n}\n";
    an_exec_of_a_package_without_packages: "fun { inputs, .. } => {\n  apps.shop = { source = inputs.site.path, exec = \"/usr/bin/python3 shop.py\" },\n}\n";
    a_source_that_is_no_input: "{\n  apps.shop = { source = \"/srv/shop\", exec = \"run\" },\n}\n";
    a_folder_that_the_input_does_not_have: "fun { inputs, .. } => {\n  apps.shop = { source = \"%{inputs.site.path}/shop\", exec = \"run\" },\n}\n";
    two_apps_of_one_port: "fun { inputs, .. } => {\n  apps.one = { source = inputs.site.path, exec = \"x\", port = 4000 },\n  apps.two = { source = inputs.site.path, exec = \"x\", port = 4000 },\n}\n";
}

#[test]
fn a_folder_of_an_input_that_is_not_there() {
    let operator = Operator::with_module("{}\n");
    operator.replace("stead.ncl", "path:./site", "path:./sites");
    insta::assert_snapshot!(operator.refused(1, &["check"]), @r"
    error: the input `site` is declared as `path:./sites`, but [TMP]/project/sites cannot be read: No such file or directory (os error 2)
      now: nothing was changed on any server
      do:  mend `inputs` in stead.ncl, or put the folder there
    ");
}

#[test]
fn a_folder_without_a_project() {
    let operator = Operator::new();
    insta::assert_snapshot!(operator.refused(1, &["--project", "site", "check"]), @r"
    error: there is no `stead.ncl` in [TMP]/project/site: it is not a project (`stead init` makes one)
      now: nothing was changed on any server
      do:  mend the declaration; `stead check` tells when it is right
    ");
}

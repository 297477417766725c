//! Projects written into a temporary folder, for the tests of this crate.

#![expect(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use stead_config::{Failure, Project};
use stead_model::server::Server;
use tempfile::TempDir;

/// A project in `<temporary>/deploy`, with the sources of inputs beside it.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    /// These files, by path below the temporary folder.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { folder }
    }

    /// A project of one server with one module of these lines, and inputs `debian`, `portfolio` and `billtracker`.
    pub(crate) fn with_module(module: &str) -> Self {
        Self::with_modules(&[module])
    }

    /// The same with several modules, in this order.
    pub(crate) fn with_modules(modules: &[&str]) -> Self {
        let imports: Vec<String> = (1..=modules.len()).map(|number| format!("import \"module{number}.ncl\"")).collect();
        let project = format!(
            "{{\n  inputs = {{\n    debian.url = \"debian:bookworm\",\n    portfolio.url = \"path:../portfolio\",\n    billtracker.url = \"path:../BillTracker\",\n  }},\n  outputs = fun inputs => {{\n    servers.web = {{ host = \"203.0.113.10\", modules = [{}] }},\n  }},\n}}\n",
            imports.join(", ")
        );
        let names: Vec<String> = (1..=modules.len()).map(|number| format!("deploy/module{number}.ncl")).collect();
        let modules = names.iter().map(String::as_str).zip(modules.iter().copied());
        Self::new([("deploy/stead.ncl", project.as_str())].into_iter().chain(modules))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("deploy")
    }

    pub(crate) fn load(&self) -> Result<Project, Failure> {
        stead_config::load(&self.root())
    }

    /// Every path input lies where its URL says.
    pub(crate) fn servers(&self) -> Result<BTreeMap<String, Server>, Failure> {
        let project = self.load()?;
        let sources = project
            .inputs
            .iter()
            .filter_map(|(name, input)| Some((name.clone(), self.root().join(input.url.strip_prefix("path:")?))))
            .collect();
        Ok(project.servers(&sources)?.into_iter().map(|(name, server)| (name.to_string(), server)).collect())
    }

    /// The only server.
    pub(crate) fn server(&self) -> Server {
        let servers = self.servers().unwrap_or_else(|failure| panic!("{}", failure.render(false)));
        assert_eq!(servers.len(), 1);
        servers.into_values().next().unwrap()
    }

    /// The failure, as people read it: the one line, then the rendering.
    pub(crate) fn failure(&self) -> String {
        let failure = self.servers().expect_err("this project is wrong");
        let text = format!("{:?}\n{failure}\n\n{}", failure.kind(), failure.render(false));
        text.replace(&self.folder.path().display().to_string(), "[TMP]")
    }
}

/// The project of the design, without what later versions bring.
pub(crate) const DESIGN: [(&str, &str); 4] = [
    (
        "deploy/stead.ncl",
        r#"{
  description = "BillTracker server deployment",
  inputs = {
    debian.url = "debian:bookworm",
    billtracker.url = "path:../BillTracker",
    portfolio.url = "path:../portfolio",
  },
  outputs = fun inputs => {
    servers.billtracker = {
      host = "203.0.113.10",
      sshUser = "root",
      modules = [
        import "hosts/billtracker/configuration.ncl",
        import "modules/server.ncl",
        inputs.billtracker.module,
      ],
    },
  },
}
"#,
    ),
    ("deploy/hosts/billtracker/configuration.ncl", "{\n  services.nginx.clientMaxBodySize = \"20m\",\n}\n"),
    (
        "deploy/modules/server.ncl",
        r#"fun { inputs, secret, .. } => {
  services.nginx.virtualHosts."billtracker.site" = {
    locations."/" = { proxyPass = "http://127.0.0.1:4000", proxyWebsockets = true },
  },
  services.nginx.virtualHosts."nick.example" = {
    root = inputs.portfolio.path,
    locations."/".tryFiles = "$uri $uri/ =404",
    locations."= /github".return = "301 https://git.example/example",
    locations."/static/".alias = "%{inputs.portfolio.path}/public",
  },
  services.bill-tracker = {
    enable = true, port = 4100, host = "billtracker.site",
    databaseUrl = "postgres:///billtracker",
    secretKeyBase = secret "secret_key_base",
  },
}
"#,
    ),
    (
        "BillTracker/stead.ncl",
        r#"fun { stead, source, .. } => {
  services.bill-tracker = {
    enable | Bool | default = false,
    port | stead.Port | default = 4000,
    host | stead.Domain,
    databaseUrl | String, secretKeyBase | stead.Secret,
  },
  apps.bill-tracker = {
    build = { packages = ["elixir"], command = "mix release", output = "_build/prod/rel/bill_tracker" },
    exec = "bin/bill_tracker start",
    packages = ["libncurses6"],
    port = services.bill-tracker.port,
    environment = {
      PORT = std.to_string services.bill-tracker.port,
      PHX_HOST = services.bill-tracker.host,
      ASSETS = "%{source}/assets",
    },
    health.path = "/health",
  },
}
"#,
    ),
];

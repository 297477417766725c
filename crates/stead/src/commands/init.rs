//! `stead init`: a first project, small and working.

use crate::failure::Failure;
use crate::output::Output;
use std::fs;
use std::path::{Component, Path, PathBuf};

const PROJECT: &str = r#"{
  description = "My server",

  inputs = {
    debian.url = "debian:bookworm",   # packages: pinned by `stead update`
    site.url = "path:./site",         # a folder with your files
  },

  outputs = fun inputs => {
    servers.main = {
      host = "203.0.113.10",          # your server's address
      sshUser = "root",
      modules = [
        {
          services.nginx.virtualHosts."site.localhost" = {
            root = inputs.site.path,
            locations."/".tryFiles = "$uri $uri/ =404",
            # With a name of your own, HTTPS: certificates come and are renewed by themselves.
            # enableACME = true, forceSSL = true,
          },
          # security.acme = { acceptTerms = true, defaults.email = "you@example.com" },
        },
      ],
    },
  },
}
"#;

const PAGE: &str = "<!doctype html>\n<title>It works</title>\n<h1>It works</h1>\n";

/// Makes a project in this folder. Overwrites nothing.
pub(crate) fn init(folder: &Path, output: &Output) -> Result<(), Failure> {
    let file = folder.join("stead.ncl");
    if file.exists() {
        let name: PathBuf = file.components().filter(|part| *part != Component::CurDir).collect();
        return Err(
            Failure::request(format!("{} is there already", name.display())).hint("choose another folder, or edit it")
        );
    }
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder.join("site"))?;
        fs::write(&file, PROJECT)?;
        let page = folder.join("site/index.html");
        if !page.exists() {
            fs::write(page, PAGE)?;
        }
        Ok(())
    };
    write().map_err(|error| Failure::request(format!("{} cannot be made: {error}", folder.display())))?;
    output.json(&serde_json::json!({ "made": [file, folder.join("site/index.html")] }));
    output.data(&format!("made {} and {}", file.display(), folder.join("site/index.html").display()));
    output.say("next: `stead lab up try`, then `stead up --lab try`: a rehearsal on this machine");
    Ok(())
}

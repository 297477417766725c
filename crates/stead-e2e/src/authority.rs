//! A real authority beside a lab, and visitors who trust it.
//!
//! Promises that every name means the lab, and that what it issues is trusted by nobody else.

use crate::lab::Lab;
use crate::outcome::Outcome;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::pebble::{Options, Pebble};

/// A pebble that the lab reaches, and that reaches the lab.
pub struct Authority {
    /// The authority.
    pub pebble: Pebble,
    folder: PathBuf,
    lab: IpAddr,
}

impl Authority {
    /// Starts one for this lab; certificates are valid for so many seconds, 0: for years.
    #[track_caller]
    pub fn beside(lab: &Lab, validity: u64) -> Self {
        let IpAddr::V4(address) = lab.address() else { panic!("labs have addresses of IPv4") };
        // The other end of the lab's own cable.
        let here = Ipv4Addr::from_bits(address.to_bits() - 1);
        let options = Options { listen: here.into(), http_port: 80, address, validity, ..Options::default() };
        let folder = lab.folder().join("authority");
        fs::create_dir_all(&folder).expect("a folder can be made in target/e2e");
        Self { pebble: Pebble::start(options), folder, lab: address.into() }
    }

    /// The body of a record of `security.acme`, in Nickel, for a module of this project: the authority, and its terms accepted.
    pub fn declared(&self, project: &Path) -> String {
        fs::create_dir_all(project).expect("a folder can be made");
        fs::write(project.join("authority.pem"), self.pebble.roots()).expect("a file can be written");
        let directory = self.pebble.directory();
        format!(
            "acceptTerms = true, defaults = {{ server = \"{directory}\", rootCertificates = import \"authority.pem\" as 'Text }},"
        )
    }

    /// A file with the root that visitors trust: that of what it issues now.
    #[track_caller]
    pub fn root(&self) -> PathBuf {
        let root = self.folder.join("root.pem");
        fs::write(&root, self.pebble.issuing_root()).expect("a file can be written");
        root
    }

    /// What `curl` gets of a site, over TLS that trusts this authority alone: status, then body. Anything that
    /// is not trusted is a failure.
    #[track_caller]
    pub fn curl(&self, url: &str, more: &[&str]) -> Outcome {
        let root = self.root();
        self.curl_trusting(&root, url, more)
    }

    /// [`Authority::curl`] by the root that was known then: the authority may be down.
    #[track_caller]
    pub fn curl_again(&self, url: &str) -> Outcome {
        self.curl_trusting(&self.folder.join("root.pem"), url, &[])
    }

    #[track_caller]
    fn curl_trusting(&self, root: &Path, url: &str, more: &[&str]) -> Outcome {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code} %{redirect_url} h%{http_version}",
        ]);
        command.arg("--cacert").arg(root).arg("--connect-to").arg(format!("::{}:", self.lab)).args(more).arg(url);
        let output = command.output().expect("curl is on this machine (`cargo xtask test` installs it)");
        Outcome::new(format!("curl {url}"), &output)
    }
}

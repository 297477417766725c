//! Why a declaration cannot become a generation.
//!
//! Every error names the option that has to change, as the operator spells it.

use stead_model::name::{Name, SecretName};

/// A declaration that cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The lock does not know a runtime.
    #[error("{option}: `{key}` is not in stead.lock; run `stead update`")]
    MissingPin {
        /// The option that asks for it.
        option: String,
        /// The runtime's key.
        key: String,
    },
    /// An input's folder is not what the lock says.
    #[error("inputs.{input}: the folder has changed since stead.lock was written; run `stead update {input}`")]
    ChangedInput {
        /// The input.
        input: String,
    },
    /// A text refers to an input that has no folder.
    #[error("{option}: there is no input `{input}` with a folder of its own")]
    UnknownInput {
        /// The option with the text.
        option: String,
        /// The name in it.
        input: String,
    },
    /// A text refers to an app that is not declared.
    #[error("{option}: there is no app `{app}`")]
    UnknownApp {
        /// The option with the text.
        option: String,
        /// The name in it.
        app: String,
    },
    /// A text has a placeholder of a kind that this version does not know.
    #[error("{option}: `{text}` is not supported by this version")]
    UnknownPlaceholder {
        /// The option with the text.
        option: String,
        /// The placeholder.
        text: String,
    },
    /// An app has a build, but no release was handed in.
    #[error("apps.{app}.build: the release has not been built")]
    NotBuilt {
        /// The app.
        app: Name,
    },
    /// The folder that an app is run from is not in its input.
    #[error("apps.{app}.source: the input has no folder `{folder}`")]
    MissingSource {
        /// The app.
        app: Name,
        /// The folder, relative to the input's.
        folder: String,
    },
    /// The command of an app is not in its release.
    #[error("apps.{app}.exec: `{path}` is not in the release")]
    MissingExec {
        /// The app.
        app: Name,
        /// The program, relative to the release.
        path: String,
    },
    /// The command of an app is a file that may not be executed.
    #[error("apps.{app}.exec: `{path}` is in the release, but is not an executable file")]
    NotExecutable {
        /// The app.
        app: Name,
        /// The program, relative to the release.
        path: String,
    },
    /// The command of an app is a program of packages, and it has none.
    #[error("apps.{app}.exec: `{path}` comes from a package, but `apps.{app}.packages` is empty")]
    NoPackages {
        /// The app.
        app: Name,
        /// The program.
        path: String,
    },
    /// A service names a runtime that is not declared.
    #[error("{option}: there is no runtime `{runtime}`")]
    UnknownRuntime {
        /// The option.
        option: String,
        /// The name.
        runtime: Name,
    },
    /// A text has a secret in it that would be written down with it.
    #[error(
        "{option}: a secret would be readable for everybody here; it can stand in `environment`, `credentials` and `basicAuthFile`"
    )]
    SecretInClear {
        /// The option with the text.
        option: String,
    },
    /// A secret is used that the project does not have.
    #[error("{option}: there is no secret `{secret}`; make it with `stead secret set {secret}`")]
    NoSecret {
        /// The option that uses it.
        option: String,
        /// The secret.
        secret: SecretName,
    },
    /// A secret is used on a server that may not read it.
    #[error(
        "{option}: the server `{server}` may not read the secret `{secret}`; add `{server}` to `{secret}` in secrets/readers.toml, and run `stead secret rekey`"
    )]
    SecretNotGranted {
        /// The option that uses it.
        option: String,
        /// The secret.
        secret: SecretName,
        /// The server.
        server: Name,
    },
    /// A secret is not encrypted for those who may read it.
    #[error(
        "{option}: the secret `{secret}` is not encrypted for exactly those whom secrets/readers.toml names; run `stead secret rekey`"
    )]
    SecretNotKeyed {
        /// The option that uses it.
        option: String,
        /// The secret.
        secret: SecretName,
    },
    /// A name of what is taken away from a service that is none.
    #[error("{option}: `{name}` is nothing that is taken away from it; there are: {known}")]
    UnknownHardening {
        /// The option.
        option: String,
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Two apps are known by one port.
    #[error("apps.{first}.port and apps.{second}.port are both {port}")]
    SamePort {
        /// One app.
        first: Name,
        /// The other.
        second: Name,
        /// The port.
        port: u16,
    },
    /// Two sites answer to one name at one address.
    #[error("services.nginx.virtualHosts.\"{first}\" and \"{second}\" both answer to `{name}` on {listen}")]
    SameSite {
        /// One site.
        first: String,
        /// The other.
        second: String,
        /// The name.
        name: String,
        /// Address and port.
        listen: String,
    },
    /// One site speaks TLS where another speaks in clear.
    #[error(
        "services.nginx.virtualHosts.\"{first}\" and \"{second}\" both listen on {listen}, but only one of them with TLS"
    )]
    MixedTls {
        /// One site.
        first: String,
        /// The other.
        second: String,
        /// Address and port.
        listen: String,
    },
    /// Two sites are the default at one address.
    #[error("services.nginx.virtualHosts.\"{first}\".default and \"{second}\".default are both true on {listen}")]
    TwoDefaults {
        /// One site.
        first: String,
        /// The other.
        second: String,
        /// Address and port.
        listen: String,
    },
    /// nginx listens on the port that an app is known by.
    #[error("apps.{app}.port is {port}, on which nginx listens for services.nginx.virtualHosts.\"{site}\"")]
    PortOfNginx {
        /// The app.
        app: Name,
        /// The site.
        site: String,
        /// The port.
        port: u16,
    },
    /// Something answers on a port that the firewall shuts.
    #[error(
        "{what} {verb} on port {port}, which networking.firewall does not open: add it to networking.firewall.allowedTCPPorts"
    )]
    ShutPort {
        /// The option of what answers.
        what: String,
        /// What it does there.
        verb: &'static str,
        /// The port.
        port: u16,
    },
    /// A value cannot be written into a file as one value.
    #[error("{option}: `{value}` {problem}")]
    BadValue {
        /// The option.
        option: String,
        /// The value, cut to 80 characters.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name is Stead's own.
    #[error("{option}: the name is used by Stead itself")]
    Reserved {
        /// The option.
        option: String,
    },
    /// One name for an app and a service.
    #[error("apps.{name} and systemd.services.{name} have one name")]
    SameName {
        /// The name.
        name: Name,
    },
    /// An app is asked over a port that it does not have.
    #[error("apps.{app}.health: asks over the network, but `apps.{app}.port` is not set")]
    HealthWithoutPort {
        /// The app.
        app: Name,
    },
    /// Apps wait for each other in a circle.
    #[error("apps.{app}: apps wait for each other in a circle (`after`, `requires`, `wants`)")]
    Circle {
        /// One of the circle.
        app: Name,
    },
    /// An app has a database, and the server has none.
    #[error("apps.{app}.database: services.postgresql is not enabled")]
    NoDatabase {
        /// The app.
        app: Name,
    },
    /// A timer has nothing to start.
    #[error("systemd.timers.{timer}: there is no systemd.services.{timer} that it could start")]
    TimerWithoutService {
        /// The timer.
        timer: Name,
    },
    /// A service has nothing to run.
    #[error("systemd.services.{service}.serviceConfig: `ExecStart` is missing")]
    NothingToRun {
        /// The service.
        service: Name,
    },
}

impl PlanError {
    /// A refused value; long ones are cut.
    pub(crate) fn bad(option: impl Into<String>, value: &str, problem: &'static str) -> Self {
        let value = value.chars().take(80).collect::<String>().replace('\n', "\\n");
        Self::BadValue { option: option.into(), value, problem }
    }
}

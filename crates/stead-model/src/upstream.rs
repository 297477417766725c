//! nginx's way to the live instance of an app: the text of a small file, which the plan writes for a boot and the agent
//! for a switch.
//!
//! Visitors are led to the instance, or, for what it does not have, to the one that it replaces, as long as that drains.
//! Probes are led to the instance alone: what the old one still answers must not hide what the new one does not.

use crate::name::{Name, Port};

/// The request header by which probes tell that they are probes, with any value.
pub const PROBE_HEADER: &str = "Stead-Probe";

/// The name of the upstream that is the instance alone.
pub fn name(app: &Name) -> String {
    format!("stead-{app}")
}

/// The variable of nginx that names the upstream for a request.
pub fn variable(app: &Name) -> String {
    format!("$stead_to_{}", app.as_str().replace('-', "_"))
}

/// The file's text, for nginx's `http` block. `old` is the port of the instance that is replaced.
pub fn text(app: &Name, port: Port, old: Option<Port>) -> String {
    let (name, variable) = (name(app), variable(app));
    let backup = old.map(backup).unwrap_or_default();
    // An app's name has no dot in it.
    format!(
        "upstream {name} {{ server 127.0.0.1:{port}; }}\n\
         upstream {name}.or.old {{ server 127.0.0.1:{port};{backup} }}\n\
         map $http_stead_probe {variable} {{ default {name}.or.old; \"~.\" {name}; }}\n"
    )
}

/// The part of [`text`] that leads to the replaced instance on this port.
pub fn backup(old: Port) -> String {
    format!(" server 127.0.0.1:{old} backup;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_instance_is_asked_last_and_never_by_a_probe() {
        let app: Name = "web-shop".parse().unwrap();
        let text = text(&app, Port::new(20001).unwrap(), Port::new(4000));
        let wanted = "upstream stead-web-shop { server 127.0.0.1:20001; }\n\
             upstream stead-web-shop.or.old { server 127.0.0.1:20001; server 127.0.0.1:4000 backup; }\n\
             map $http_stead_probe $stead_to_web_shop { default stead-web-shop.or.old; \"~.\" stead-web-shop; }\n";
        assert_eq!(text, wanted);
        assert_eq!(PROBE_HEADER.to_ascii_lowercase().replace('-', "_"), "stead_probe", "as the map names it");
    }
}

//! `networking.firewall`: from options to one value of the model.
//!
//! Promises that names of interfaces are names. Which ports have to be open is planning's affair.

use crate::failure::Failure;
use crate::server::{Mapping, object};
use crate::tree::{Node, Shape};
use serde_json::{Map, Value};
use stead_model::server::{Firewall, Interface};

const PATH: [&str; 2] = ["networking", "firewall"];
/// The options that an interface has too.
const OPEN: [&str; 4] = ["allowedTCPPorts", "allowedUDPPorts", "allowedTCPPortRanges", "allowedUDPPortRanges"];

impl Mapping<'_> {
    /// The firewall, if the server has one.
    pub(crate) fn firewall(&self) -> Result<Option<Firewall>, Failure> {
        let Some(node) = self.configuration.at(&PATH) else { return Ok(None) };
        if !matches!(node.get("enable").map(|enable| &enable.shape), Some(Shape::Bool(true))) {
            return Ok(None);
        }
        for (name, _) in node.get("interfaces").into_iter().flat_map(Node::fields) {
            if let Err(error) = name.parse::<Interface>() {
                let path = [PATH[0], PATH[1], "interfaces", name];
                return Err(self.refuse(&path, format!(" is of no interface: {error}"), None));
            }
        }
        let mut value = node.to_json();
        let fields = object(&mut value);
        fields.remove("enable");
        let open: Map<String, Value> =
            OPEN.iter().filter_map(|name| Some(((*name).to_owned(), fields.remove(*name)?))).collect();
        fields.insert("open".to_owned(), Value::Object(open));
        self.read(node, &PATH, value).map(Some)
    }
}

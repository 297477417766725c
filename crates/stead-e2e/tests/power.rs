//! What only a machine of its own can show: the power is cut.
//!
//! The long run is `cargo xtask chaos`; its program is `examples/chaos.rs`.
#![expect(clippy::print_stderr, reason = "a seed that finds something has to be known")]

use stead_e2e::lab::Machine;
use stead_e2e::power::{Kind, Server};

/// The seed that `STEAD_POWER_SEED` gives, else another one each time. It is told either way.
fn seed() -> u64 {
    let given = std::env::var("STEAD_POWER_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("STEAD_POWER_SEED is a number"));
    eprintln!("STEAD_POWER_SEED={seed}");
    seed
}

#[test]
fn whenever_the_power_is_cut_the_server_comes_up_whole_in_one_of_two_generations() {
    let mut server = Server::boot(Machine::bookworm(), "bookworm", seed());
    for kind in Kind::ALL {
        let cut = server.cut(kind);
        eprintln!("{cut:?}");
    }
}

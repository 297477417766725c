//! `stead leave`: gives the machine back as it was before Stead; data stays, unless told otherwise.
//!
//! First a deploy of nothing, proved like every other, then the agent removes what is Stead's, itself last. May be
//! interrupted anywhere, and run again.

use super::deploy;
use crate::arguments::{Global, Leave};
use crate::connect;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::project;
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use stead_remote::message::{Reply, Request};

/// Takes everything of Stead's off a server.
pub(crate) fn leave(global: &Global, words: &Leave, output: &mut Output) -> Result<(), Failure> {
    let loaded = project::load(&global.project, output)?;
    let server = loaded.server(words.target.server.as_deref())?;
    sure(server.name.as_str(), words, output)?;
    output.phase("connect");
    let mut connected = connect::begin(server, &words.target)?.join(output)?;
    deploy::is_this_server(&connected, server)?;
    if connected.hello.active.is_some() {
        deploy::nothing(&loaded, server, &mut connected, &words.trial, output)?;
        connected.reconnect()?;
    }
    output.phase("leave");
    let request = Request::Leave { with_data: words.with_data };
    let reply = connected.ask(&request, |_, _| Ok(())).map_err(|failure| match failure.exit {
        // Something was begun, and is not whole.
        Exit::BeforeSwitch => Failure { exit: Exit::Stuck, ..failure }
            .hint("nothing of Stead's runs any more; mend what stands in the way and run `stead leave` again"),
        _ => failure,
    })?;
    let Reply::Left { kept } = reply else { return Err(Failure::before("the agent answered something else")) };
    output.finish();
    output.json(&json!({ "server": server.name, "kept": kept }));
    output.good(&format!("{} is as it was before Stead", server.name));
    for place in &kept {
        output.data(&format!("stays: {place}"));
    }
    Ok(())
}

/// Asks once more where a person is there, and wants a word where nobody is.
fn sure(server: &str, words: &Leave, output: &mut Output) -> Result<(), Failure> {
    if words.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::request(format!("`leave` takes everything of Stead's off {server}, its sites too"))
            .hint("say `--yes` if that is meant"));
    }
    output.finish();
    let data = if words.with_data { ", and all data of its apps" } else { "; data of its apps stays" };
    output.say(&format!("everything of Stead's goes from {server}, its sites too{data}. To go on, type its name:"));
    let mut typed = String::new();
    let _ = std::io::stdin().lock().read_line(&mut typed);
    match typed.trim() == server {
        true => Ok(()),
        false => Err(Failure::request("another name was typed").hint("nothing was done")),
    }
}

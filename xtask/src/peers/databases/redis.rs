//! Redis: many commands on one connection, values of megabytes, and subscribers that only listen.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Database, LARGE_BYTES, START_MAX, line};
use crate::shell::{self, Background};

/// How long a subscriber hears nothing before the message.
const SILENCE: Duration = Duration::from_secs(2);
/// Keys that are loaded at once.
const KEYS: usize = 50_000;

/// A command, a large value both ways, a bulk load, a message to a silent subscriber.
pub(super) fn check(database: &Database) -> Result<()> {
    let mut server = start(database)?;
    let client = client(database.through)?;
    let pong = line(&format!("{client} PING"))?;
    ensure!(pong == "PONG", "PING: {pong}");
    let file = database.folder.join("value");
    fs::write(&file, vec![b'z'; LARGE_BYTES])?;
    let set = line(&format!("{client} -x SET large < {}", file.display()))?;
    ensure!(set == "OK", "SET of a large value: {set}");
    let size = line(&format!("{client} --raw GET large | wc -c"))?;
    ensure!(size == (LARGE_BYTES + 1).to_string(), "GET of a large value: {size} bytes with the newline");
    let commands: String = (0..KEYS).map(|key| format!("SET key:{key} {key}\r\n")).collect();
    fs::write(&file, commands)?;
    let loaded = line(&format!("{client} --pipe < {}", file.display()))?;
    ensure!(loaded.contains(&format!("errors: 0, replies: {KEYS}")), "a bulk load: {loaded}");
    let last = line(&format!("{client} GET key:{}", KEYS - 1))?;
    ensure!(last == (KEYS - 1).to_string(), "the last key: {last}");
    subscriber(database, &client)?;
    server.signal("TERM")?;
    server.wait(START_MAX).map(drop)
}

/// A subscription passes, and a message after a silence.
fn subscriber(database: &Database, client: &str) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {client} SUBSCRIBE news")]);
    let mut listening = Background::start("redis-cli", &mut command, &database.folder.join("subscriber.log"))?;
    let limit = Duration::from_secs(10);
    listening.wait_for("confirmation", limit, |process| process.said().contains("subscribe").then_some(()))?;
    thread::sleep(SILENCE);
    let heard_by = line(&format!("{client} PUBLISH news now"))?;
    ensure!(heard_by == "1", "subscribers after a silence: {heard_by}");
    listening.wait_for("message", limit, |process| process.said().contains("message\nnews\nnow").then_some(()))
}

fn start(database: &Database) -> Result<Background> {
    let folder = database.folder.display().to_string();
    let mut command = Command::new(shell::need("redis-server", "redis-server")?);
    command.args(["--bind", "127.0.0.1", "--port", &database.direct.to_string(), "--dir", &folder, "--save", ""]);
    let mut process = Background::start("redis-server", &mut command, &database.folder.join("log"))?;
    let client = client(database.direct)?;
    let up = |_: &mut Background| line(&format!("{client} PING")).ok().filter(|said| said == "PONG");
    process.wait_for("Redis that answers", START_MAX, up)?;
    Ok(process)
}

fn client(port: u16) -> Result<String> {
    let program = shell::need("redis-cli", "redis-tools")?;
    Ok(format!("{} -h 127.0.0.1 -p {port}", program.display()))
}

//! MariaDB, PostgreSQL and Redis with the clients they come with, through `--forward`.
//!
//! Each server is Debian's, started here with data of its own and never as a service of the machine. MariaDB speaks first;
//! PostgreSQL's client asks for TLS within its own protocol; Redis pushes messages to clients that say nothing for long.
//! Answers of some megabytes go both ways. At last the TCP metrics know every connection and no fewer bytes than were asked for.

mod mariadb;
mod postgresql;
mod redis;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::exposition::{sum, until};
use super::manifests::service;
use super::world::Proxy;
use crate::shell;

/// Bytes of the large answers and loads, at least.
const LARGE_BYTES: usize = 4_000_000;
/// How long one command of a client may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// How long a server may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(60);

/// A server behind the proxy.
struct Database {
    /// The name of the Service.
    service: &'static str,
    /// Where clients connect: the proxy.
    through: u16,
    /// Where the server listens.
    direct: u16,
    /// Its data.
    folder: PathBuf,
}

/// A folder that goes with its owner.
struct Temporary(PathBuf);

/// Runs all three.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    // Not below the target folder: PostgreSQL runs as a user who may not be let into that.
    let data = Temporary(env::temp_dir().join(format!("outrigger-peers-{}", std::process::id())));
    shell::fresh_folder(&data.0)?;
    let [mariadb, postgresql, redis] = ["mariadb", "postgresql", "redis"].map(|service| -> Result<Database> {
        let folder = data.0.join(service);
        fs::create_dir(&folder)?;
        Ok(Database { service, through: shell::free_port()?, direct: shell::free_port()?, folder })
    });
    let (mariadb, postgresql, redis) = (mariadb?, postgresql?, redis?);
    let all = [&mariadb, &postgresql, &redis];
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    fs::write(yaml.join("databases.yaml"), all.map(Database::manifests).concat())?;
    let forwards = all.map(|database| format!("127.0.0.1:{}={}.data:{}", database.through, database.service, PORT));
    let yaml = yaml.to_str().context("a path that is UTF-8")?;
    let arguments = [&[yaml][..], &forwards.each_ref().map(|to| ["--forward", to]).concat()].concat();
    let proxy = Proxy::start(program, &arguments, &folder.join("outrigger.log"))?;
    mariadb::check(&mariadb).context("MariaDB")?;
    postgresql::check(&postgresql).context("PostgreSQL")?;
    redis::check(&redis).context("Redis")?;
    for database in all {
        database.counted(&proxy)?;
    }
    proxy.stop()
}

/// The port of each Service. Not one that is known for a protocol: the name of the port decides here.
const PORT: u16 = 7000;

impl Database {
    fn manifests(&self) -> String {
        service("data", self.service, &format!("tcp-{}", self.service), PORT, &[self.direct])
    }

    /// Every connection that was opened has ended, and the bytes of the large answers and loads are there.
    fn counted(&self, proxy: &Proxy) -> Result<()> {
        let host = format!("{}.data.svc.cluster.local", self.service);
        let labels = [("reporter", "source"), ("destination_service", host.as_str())];
        until(proxy, Duration::from_secs(15), |scrape| {
            let names = ["connections_opened", "connections_closed", "received_bytes", "sent_bytes"];
            let [opened, closed, received, sent] =
                names.map(|name| sum(scrape, &format!("istio_tcp_{name}_total"), &labels));
            let whole = opened > 3.0 && opened == closed && received.min(sent) >= LARGE_BYTES as f64;
            let found = format!("opened {opened}, closed {closed}, received {received} bytes, sent {sent}");
            if whole { Ok(()) } else { Err(format!("TCP metrics of {host}: {found}")) }
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command line, ended when it takes far too long. A line because clients read files from standard input.
fn line(words: &str) -> Result<String> {
    let seconds = COMMAND_MAX.as_secs().to_string();
    shell::output(Command::new("timeout").args([&seconds, "sh", "-c", words])).map(|said| said.trim_end().to_owned())
}

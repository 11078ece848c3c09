//! PostgreSQL: clients speak first, ask for TLS within the protocol, and load rows with COPY.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Database, LARGE_BYTES, START_MAX, line};
use crate::shell::{self, Background};

/// A query with and without TLS, a large answer, COPY, and a notification after silence.
pub(super) fn check(database: &Database) -> Result<()> {
    let mut server = start(database)?;
    let client = |tls: &str| client(database.through, tls);
    for (tls, expected) in [("disable", "f"), ("require", "t")] {
        let query = "SELECT 6 * 7, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let answer = line(&format!("{} -c '{query}'", client(tls)?))?;
        ensure!(answer == format!("42|{expected}"), "a query with sslmode={tls}: {answer}");
    }
    let plain = client("disable")?;
    let rows = LARGE_BYTES / 1000;
    for client in [&plain, &client("require")?] {
        let query = format!("SELECT repeat(chr(120), 1000) FROM generate_series(1, {rows})");
        let large = line(&format!("{client} -c '{query}' | wc -c"))?;
        ensure!(large == (rows * 1001).to_string(), "{large} bytes of a large answer instead of {}", rows * 1001);
    }
    let file = database.folder.join("rows");
    let text: String = (0..rows).map(|row| format!("{row}\t{}\n", "y".repeat(1000))).collect();
    fs::write(&file, text)?;
    let loaded = line(&format!(
        "{plain} -c 'CREATE TABLE loaded (id int PRIMARY KEY, filler text)' -c 'COPY loaded FROM STDIN' \
         -c 'SELECT count(*), max(id), sum(length(filler)) FROM loaded' < {}",
        file.display()
    ))?;
    let counts = format!("{rows}|{}|{}", rows - 1, rows * 1000);
    ensure!(loaded.lines().last() == Some(counts.as_str()), "rows that were loaded: {loaded}");
    let slept = line(&format!("{plain} -c 'LISTEN news' -c 'SELECT pg_sleep(1)' -c \"NOTIFY news, 'now'\""))?;
    ensure!(slept.contains("\"news\" with payload \"now\""), "a notification after silence: {slept}");
    server.signal("INT")?;
    server.wait(START_MAX).map(drop)
}

fn start(database: &Database) -> Result<Background> {
    let programs = programs()?;
    let folder = &database.folder;
    let (data, key, certificate) = (folder.join("data"), folder.join("server.key"), folder.join("server.crt"));
    let mut make = Command::new(shell::need("openssl", "openssl")?);
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    shell::output(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    shell::output(Command::new("chmod").arg("600").arg(&key))?;
    if is_root()? {
        // The server refuses to run as root.
        shell::output(Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder))?;
    }
    let mut prepare = unprivileged(&programs.join("initdb"))?;
    prepare.args(["--no-sync", "--auth=trust", "--username=app", "--encoding=UTF8", "--locale=C"]);
    shell::output(prepare.arg("-D").arg(&data).current_dir(folder))?;
    let mut command = unprivileged(&programs.join("postgres"))?;
    command.arg("-D").arg(&data).current_dir(folder);
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={}", database.direct),
        format!("unix_socket_directories={}", folder.display()),
        "ssl=on".to_owned(),
        format!("ssl_key_file={}", key.display()),
        format!("ssl_cert_file={}", certificate.display()),
        "fsync=off".to_owned(),
        "max_wal_size=64MB".to_owned(),
    ];
    for setting in &settings {
        command.args(["-c", setting]);
    }
    // The log belongs to us: the folder no longer does.
    let log = folder.with_extension("log");
    let mut process = Background::start("postgres", &mut command, &log)?;
    let client = client(database.direct, "disable")?;
    let up = |_: &mut Background| line(&format!("{client} -c 'SELECT 1' 2>/dev/null")).ok();
    process.wait_for("PostgreSQL that answers", START_MAX, up)?;
    Ok(process)
}

/// The client without what the machine's files say, printing bare rows.
fn client(port: u16, tls: &str) -> Result<String> {
    let psql = programs()?.join("psql");
    let to = format!("host=127.0.0.1 port={port} user=app dbname=postgres sslmode={tls} connect_timeout=10");
    Ok(format!("{} --no-psqlrc --tuples-only --no-align --quiet \"{to}\" -v ON_ERROR_STOP=1", psql.display()))
}

/// Debian keeps them out of `PATH`, in a folder for each version.
fn programs() -> Result<PathBuf> {
    let newest = || -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        versions.map(|version| version.join("bin")).filter(|programs| programs.join("postgres").exists()).max()
    };
    if newest().is_none() {
        shell::install("postgresql")?;
    }
    newest().context("package `postgresql` brought no server")
}

fn is_root() -> Result<bool> {
    Ok(shell::output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// A program as Debian's user for it, if we are root, and otherwise as ourselves.
fn unprivileged(program: &Path) -> Result<Command> {
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new(shell::need("setpriv", "util-linux")?);
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    Ok(command)
}

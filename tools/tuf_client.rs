//! The TUF client of the appliance as the public conformance suite calls it (`tools/conformance`).
//! Not shipped: it speaks HTTP/1.0 without TLS, for the suite's server on this machine.
//!
//! The suite wants the trusted metadata as `root.json`, `timestamp.json` … in one folder. So what
//! the client keeps below `state/` in that folder is copied up when it is done.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lineside::clock::Clock;
use lineside::ota::disk::Folder;
use lineside::ota::floor::Book;
use lineside::ota::tuf::{Client, FetchError, Limits, Target, Transport};

type Done<T> = Result<T, Box<dyn Error>>;

/// The suite's server answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// The root that the suite gave, as it was given.
const ANCHOR: &str = "state/anchor";

#[derive(Default)]
struct Options {
    metadata_dir: PathBuf,
    metadata_url: String,
    target_names: Vec<String>,
    target_base_url: String,
    target_dir: PathBuf,
    command: String,
    trusted_root: PathBuf,
}

fn options() -> Done<Options> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word}: a value is missing"));
        match word.as_str() {
            "--metadata-dir" => options.metadata_dir = value()?.into(),
            "--metadata-url" => options.metadata_url = value()?,
            "--target-name" => options.target_names.push(value()?),
            "--target-base-url" => options.target_base_url = value()?,
            "--target-dir" => options.target_dir = value()?.into(),
            "init" => {
                options.trusted_root = value()?.into();
                options.command = word;
            }
            "refresh" | "download" => options.command = word,
            _ => return Err(format!("{word}: not known").into()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let run = || match options()? {
        options if options.command == "init" => init(&options),
        options if options.command == "refresh" => refresh(&options).map(drop),
        options if options.command == "download" => download(&options),
        _ => Err("init, refresh or download?".into()),
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn init(options: &Options) -> Done<()> {
    let anchor = options.metadata_dir.join(ANCHOR);
    fs::create_dir_all(anchor.parent().ok_or("no folder")?)?;
    fs::copy(&options.trusted_root, anchor)?;
    fs::copy(
        &options.trusted_root,
        options.metadata_dir.join("root.json"),
    )?;
    Ok(())
}

fn refresh(options: &Options) -> Done<Client<Folder>> {
    let disk = Folder::new(options.metadata_dir.join("state"));
    let book = Book::open(disk.clone())?;
    let anchor = fs::read(options.metadata_dir.join(ANCHOR))?;
    let mut client = Client::open(disk, book, &anchor, Limits::default())?;
    let refreshed = client.refresh(Clock::start().now().wall, &mut http(&options.metadata_url));
    show(options, &client)?;
    refreshed?;
    Ok(client)
}

fn download(options: &Options) -> Done<()> {
    let mut client = refresh(options)?;
    for name in &options.target_names {
        let found = client.find(name, &mut http(&options.metadata_url));
        show(options, &client)?;
        let target = found?.ok_or(format!("{name}: no such target"))?;
        let place = options
            .target_dir
            .join(name.replace('%', "%25").replace('/', "%2F"));
        let cached = fs::read(&place).is_ok_and(|bytes| target.is(&bytes));
        if !cached {
            fs::write(place, load(&target, &options.target_base_url)?)?;
        }
    }
    Ok(())
}

fn load(target: &Target, url: &str) -> Done<Vec<u8>> {
    let mut bytes = Vec::new();
    http(url)
        .open(&target.file)?
        .take(target.length + 1)
        .read_to_end(&mut bytes)?;
    if !target.is(&bytes) {
        return Err(format!("{}: not the bytes that were signed for", target.path).into());
    }
    Ok(bytes)
}

/// Copies the trusted metadata to where the suite looks for it.
fn show(options: &Options, client: &Client<Folder>) -> Done<()> {
    let dir = &options.metadata_dir;
    let trust = dir.join("state/trust");
    let newest = trust.join(format!("roots/{}.root.json", client.root().version));
    if newest.exists() {
        fs::copy(newest, dir.join("root.json"))?;
    }
    let shown = |dir: &Path| -> io::Result<Vec<PathBuf>> {
        let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
        let paths: Vec<_> = paths.collect::<io::Result<_>>()?;
        let is_file = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
        Ok(paths.into_iter().filter(is_file).collect())
    };
    for path in shown(dir)? {
        if !path.ends_with("root.json") {
            fs::remove_file(path)?;
        }
    }
    if trust.exists() {
        for path in shown(&trust)? {
            fs::copy(&path, dir.join(path.file_name().ok_or("no name")?))?;
        }
    }
    Ok(())
}

/// A folder on an HTTP server.
struct Http {
    url: String,
}

fn http(url: &str) -> Http {
    Http {
        url: format!("{}/", url.trim_end_matches('/')),
    }
}

impl Transport for Http {
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        let url = format!("{}{}", self.url, file.replace(' ', "%20"));
        let strange = || io::Error::other(format!("{url}: not an address or not HTTP"));
        let rest = url.strip_prefix("http://").ok_or_else(strange)?;
        let (host, path) = rest.split_once('/').ok_or_else(strange)?;
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        match head.split(' ').nth(1) {
            Some("200") => Ok(Box::new(reader)),
            Some("403" | "404") => Err(FetchError::NotThere),
            _ => Err(io::Error::other(head).into()),
        }
    }
}

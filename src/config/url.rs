//! Pure. The URLs that etcd's flags take. The text is kept as given: it comes back byte for byte
//! in member lists, and member ids are hashes of it.

use std::fmt;
use std::net::IpAddr;

/// How bytes travel to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

impl Scheme {
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }
}

/// Where a URL points.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A host name, or an IP address without brackets.
    Tcp { host: String, port: u16 },
    /// A socket file; a relative path for `unix://name:port`.
    Unix { path: String },
}

/// One URL of a flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    text: String,
    pub scheme: Scheme,
    pub address: Address,
}

/// Why a text is not such a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UrlError {
    Scheme(String),
    HostPort(String),
    Path(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::Scheme(text) => {
                write!(f, "URL scheme must be http, https, unix, or unixs: {text}")
            }
            UrlError::HostPort(text) => {
                write!(
                    f,
                    "URL address does not have the form \"host:port\": {text}"
                )
            }
            UrlError::Path(text) => write!(f, "URL must not contain a path: {text}"),
        }
    }
}

impl std::error::Error for UrlError {}

impl Url {
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let host_port = || UrlError::HostPort(text.to_owned());
        let address = if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            if rest.is_empty() {
                return Err(host_port());
            }
            Address::Unix {
                path: rest.to_owned(),
            }
        } else {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (host, port) = split_host_port(authority).ok_or_else(host_port)?;
            if !path.is_empty() {
                return Err(UrlError::Path(text.to_owned()));
            }
            Address::Tcp {
                host: host.to_owned(),
                port: port.parse().map_err(|_| host_port())?,
            }
        };
        Ok(Url {
            text: text.to_owned(),
            scheme,
            address,
        })
    }

    /// The URL as it was given, but for spaces around it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a listener can bind it: an IP address, `localhost`, or a socket file.
    pub fn is_bindable(&self) -> bool {
        match &self.address {
            Address::Tcp { host, .. } => {
                host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok()
            }
            Address::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return Some((host, port));
    }
    let (host, port) = authority.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

/// The URLs of one flag, sorted by text and without repeats, as etcd keeps them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UrlList(Vec<Url>);

impl UrlList {
    pub fn new(mut urls: Vec<Url>) -> UrlList {
        urls.sort_by(|a, b| a.text.cmp(&b.text));
        urls.dedup_by(|a, b| a.text == b.text);
        UrlList(urls)
    }

    /// The texts, as members advertise them.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|url| url.text.clone()).collect()
    }
}

impl std::ops::Deref for UrlList {
    type Target = [Url];
    fn deref(&self) -> &[Url] {
        &self.0
    }
}

impl fmt::Display for UrlList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().join(","))
    }
}
